#pragma once
// The shares of a batch. Each has as many trajectories, in the order of samples, whatever the
// number of processes; a process owns some that follow one another. A share is computed on its own,
// and what shares give is added in their order, so that a run's numbers do not depend on how many
// processes it has.

#include <functional>
#include <vector>

#include "vggflow/dist/group.h"
#include "vggflow/dist/take_turns.h"
#include "vggflow/train/train_state.h"

namespace vggflow {

/// What shares=0 stands for in a new run: one in one process. In several, as many as processes
/// where states are images, whose passes are short; of latents the largest number up to 8 that
/// divides the batch and that the processes divide, so that the run may go on with fewer, if there
/// is one.
int64_t default_shares(int64_t batch, int processes, bool latents);

class Shares {
 public:
  /// `count` shares of a batch, one for 0. Throws where they do not divide the batch, or the
  /// group's processes do not divide them.
  Shares(const Group& group, int64_t count, int64_t batch);

  int64_t rows() const { return rows_; }                    ///< trajectories of a share
  size_t own() const { return static_cast<size_t>(own_); }  ///< shares of this process
  int64_t start(size_t i) const {                           ///< first trajectory of its i-th
    return (first_ + static_cast<int64_t>(i)) * rows_;
  }
  /// Calls work for every share of this process, one at a time (dist/take_turns.h), with the
  /// gradients of `state` going into the share's own sum, and adds up the sums of all shares in
  /// order. `meet` gives the rows of all shares; it is empty where one share is the whole batch.
  void run(TrainState& state, const std::function<void(size_t i, const Meet& meet)>& work) const;

  /// Of a share's work, with its `meet`: once all shares are here, adds up their gradients of the
  /// value network in order, calls `step` once per process, and clears them.
  void step_value(TrainState& state, const Meet& meet, const std::function<void()>& step) const;

 private:
  Group group_;
  int64_t count_, rows_, own_, first_;
  mutable int64_t stepping_ = 0;  ///< own shares that came out of step_value's meeting so far
};

}  // namespace vggflow
