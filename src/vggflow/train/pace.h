#pragma once
// How long the rest of a run will take, evaluations counted.

#include <cstdint>
#include <optional>

namespace vggflow {

class Pace {
 public:
  /// `eval_every`: updates between evaluations, of which one follows the last update too.
  Pace(int64_t updates, int64_t eval_every) : updates_(updates), eval_every_(eval_every) {}
  void update(double seconds);
  /// The evaluation of the base, which draws a second set of images.
  void base(double seconds) { evaluation_ = seconds / 2; }
  void evaluation(double seconds) { evaluation_ = seconds; }

  /// Evaluations that will follow once `done` updates are.
  int64_t evaluations_left(int64_t done) const;
  /// The mean time of the updates so far, times those left, and the last evaluation's time, times
  /// those left; none before the first update.
  std::optional<double> seconds_left(int64_t done) const;

 private:
  int64_t updates_, eval_every_, timed_ = 0;
  double seconds_ = 0, evaluation_ = 0;
};

}  // namespace vggflow
