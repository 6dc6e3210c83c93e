#pragma once
// The reward-hacking monitor: what speaks against an evaluation, and the best one that nothing
// speaks against.

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "vggflow/eval/evaluate.h"
#include "vggflow/train/checkpoint.h"

namespace vggflow {

class Monitor {
 public:
  /// `diversity_floor`: share of the base's diversity below which a model counts as collapsed.
  explicit Monitor(double diversity_floor) : diversity_floor_(diversity_floor) {}

  struct Best {
    int64_t update = 0;
    double reward = 0;
    Json metrics;
  };

  /// Weighs the evaluation after `update` updates; returns what speaks against it, a short name and
  /// a sentence each.
  std::vector<std::pair<std::string, std::string>> weigh(int64_t update, const Evaluation& base,
                                                         const Evaluation& now);
  const std::optional<Best>& best() const { return best_; }
  /// Whether the evaluation after `update` updates is the best so far.
  bool is_best(int64_t update) const { return best_ && best_->update == update; }
  /// Forgets the best one: evaluations of other settings cannot be compared with it.
  void forget() { best_.reset(); }

  void save(Checkpoint& checkpoint) const;
  void load(const Checkpoint& checkpoint);

 private:
  double diversity_floor_;
  std::optional<Best> best_;
};

/// Throws where the base's images as they are measured now are not those of the run's start, whose
/// figures a checkpoint holds. Rounding passes: a tenth of the reward's deviation within a prompt,
/// 2 % of the diversity and 5 % of FD's floor.
void check_same_base(const Json& stored, const Evaluation& now);

}  // namespace vggflow
