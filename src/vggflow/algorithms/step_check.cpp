#include "vggflow/algorithms/step_check.h"

#include "vggflow/core/error.h"

namespace vggflow {

void check_transitions(const TransitionOptions& o, int64_t steps) {
  VGGFLOW_CHECK(o.bins <= steps, "[transitions] expected at most {} bins for {} steps, got {}",
                steps, steps, o.bins);
}

void check_truncation(const DraftOptions& o, int64_t steps) {
  const bool bounded = o.kind == "full" || o.kind == "lv";
  VGGFLOW_CHECK(bounded || o.k <= steps,
                "[draft] expected draft.k of at most {} (the steps), got {}", steps, o.k);
}

void check_window(const ReflOptions& o, int64_t steps) {
  VGGFLOW_CHECK(o.k_min <= o.k_max && o.k_max < steps,
                "[refl] expected 0 <= refl.k_min <= refl.k_max < {} (the steps), got {} and {}",
                steps, o.k_min, o.k_max);
}

void check_steps(const std::string& method, const MethodOptions& o, int64_t steps) {
  if (method == "vgg-flow") check_transitions(o.vgg.transitions, steps);
  if (method == "vgg-flow-pmp") check_transitions(o.pmp.transitions, steps);
  if (method == "fitted-adjoint") check_transitions(o.fitted.transitions, steps);
  if (method == "draft") check_truncation(o.draft, steps);
  if (method == "refl") check_window(o.refl, steps);
}

}  // namespace vggflow
