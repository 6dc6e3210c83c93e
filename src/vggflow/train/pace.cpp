#include "vggflow/train/pace.h"

namespace vggflow {

void Pace::update(double seconds) {
  seconds_ += seconds;
  ++timed_;
}

int64_t Pace::evaluations_left(int64_t done) const {
  if (done >= updates_) return 0;
  const int64_t on_schedule = updates_ / eval_every_ - done / eval_every_;
  return on_schedule + (updates_ % eval_every_ != 0 ? 1 : 0);
}

std::optional<double> Pace::seconds_left(int64_t done) const {
  if (timed_ == 0) return std::nullopt;
  return static_cast<double>(updates_ - done) * seconds_ / static_cast<double>(timed_) +
         static_cast<double>(evaluations_left(done)) * evaluation_;
}

}  // namespace vggflow
