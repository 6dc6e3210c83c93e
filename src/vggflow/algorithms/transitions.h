#pragma once
// States of trajectories as methods use them: which to train on, in which parts.

#include <functional>
#include <map>
#include <vector>

#include "vggflow/algorithms/method.h"
#include "vggflow/core/random.h"
#include "vggflow/flow/sampling.h"

namespace vggflow {

/// Which steps of a trajectory a method trains on.
struct TransitionOptions {
  int64_t bins = 5;
  bool force_last_step = false;
  bool skip_first_step = false;
  /// Transitions of one trajectory.
  double count() const { return static_cast<double>(bins + (force_last_step ? 1 : 0)); }

  template <class V>
  void fields(V& v) {
    v("bins", bins, "time bins per trajectory; one transition is trained per bin", range(1, 1000));
    v("force_last_step", force_last_step,
      "also train the last step of every trajectory, as in the released code");
    v("skip_first_step", skip_first_step,
      "never train the first step, at pure noise, as in the released code");
  }
};

/// Throws where there are more bins than steps.
void check_transitions(const TransitionOptions& options, int64_t steps);

/// The steps of one trajectory to train on, increasing: bins of consecutive steps 0..steps-1, one
/// uniform draw from each.
std::vector<int64_t> draw_transitions(const TransitionOptions& options, int64_t steps,
                                      RandomStream random);

/// M transitions of B trajectories, with the step each starts at and v_theta there.
struct Transitions {
  States states;
  Tensor velocity;  ///< (M, ...) read off the Euler step: there is one optimizer step an update, so
                    ///< it is current
  std::vector<int64_t> steps;  ///< (M)
  Tensor difference = {};      ///< (M, ...) v_theta - v_base, where the rollout carried it
};

/// x' = v_theta from input.x0 over input.times, without gradient.
Trajectory roll_out(AlignmentProblem& problem, const UpdateInput& input);

/// The steps of each sample that will be trained on.
using StepsOfSamples = std::vector<std::vector<int64_t>>;

/// A trajectory with v_theta - v_base at the states that it was asked for at.
struct Rollout : Trajectory {
  std::vector<std::map<int64_t, Tensor>> differences;  ///< by sample and step; empty: the problem
                                                       ///< has none
};

/// The same, which carries the difference through these steps where the problem has one.
Rollout roll_out(AlignmentProblem& problem, const UpdateInput& input, const StepsOfSamples& steps);
/// The same for the steps that draw() will draw.
Rollout roll_out(AlignmentProblem& problem, const UpdateInput& input,
                 const TransitionOptions& options);

/// AlignmentProblem::rollout_difference in two parts, so that it takes about the memory of one
/// rollout step.
VelocityDifference rollout_difference(AlignmentProblem& problem, const States& states);

/// The transitions that start at steps[i] of trajectory i.
Transitions pick(const Trajectory& trajectory, const StepsOfSamples& steps);
Transitions pick(const Rollout& rollout, const StepsOfSamples& steps);

/// The steps to train on of every trajectory, keyed by (seed, kTime, update, sample): of all steps,
/// or of those from `first` on.
StepsOfSamples draw_steps(const TransitionOptions& options, const UpdateInput& input,
                          int64_t first = 0);

/// Draws transitions of every trajectory by them.
Transitions draw(const Rollout& rollout, const TransitionOptions& options,
                 const UpdateInput& input);

/// All transitions of every trajectory; `difference` is zero where the rollout did not carry it.
Transitions all_steps(const Rollout& rollout);

/// Where the given steps of each trajectory are among `all`, those that are, trajectory by
/// trajectory.
Tensor places_of(const Transitions& all, const StepsOfSamples& steps);

/// The transitions that begin where the given ones end. The end point x_N is one of velocity 0.
Transitions following(const Trajectory& trajectory, const Transitions& at);

/// The transitions at these places.
Transitions choose(const Transitions& all, const Tensor& places);

/// The numbers of rows (M) on the host, in one copy.
std::vector<int64_t> numbers(const Tensor& rows);

/// 0 ... count - 1, the numbers of rows, on the device of `like`.
Tensor row_numbers(int64_t count, const Tensor& like);

States select(const States& s, const Tensor& index);
States slice(const States& s, int64_t start, int64_t length);

/// Calls f(start, length) over chunks of `micro_batch` rows of `count`.
void in_parts(int64_t count, int64_t micro_batch,
              const std::function<void(int64_t start, int64_t length)>& f);

/// The sum of loss(start, length) over such chunks and all shares, each with its backward pass;
/// `like`: on its device.
double descend_in_parts(int64_t count, int64_t micro_batch, const Tensor& like,
                        const WholeBatch& whole,
                        const std::function<Tensor(int64_t start, int64_t length)>& loss);

/// Results by chunk put together; of no chunk, no rows like those of `like`.
Tensor joined(const std::vector<Tensor>& parts, const Tensor& like);

/// Rows of a (M) bool mask, none where this share has none; throws, naming the method, where the
/// whole batch has none.
Tensor finite_rows(const Tensor& finite, const char* method, const WholeBatch& whole);

}  // namespace vggflow
