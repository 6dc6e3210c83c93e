#pragma once
// eta(t), the schedule of the reward gradient in the forward-looking value gradient g = -eta(t)
// grad r(x1_hat) + nu (VGG-Flow, Eq. 16).

#include "vggflow/core/field.h"
#include "vggflow/ops/dual.h"

namespace vggflow {

/// 1, t, t^2.
enum class Eta { kConstant, kLinear, kQuadratic };
inline OptionWords<Eta> option_words(Eta) {
  return {{"constant", Eta::kConstant}, {"linear", Eta::kLinear}, {"quadratic", Eta::kQuadratic}};
}

Tensor eta(Eta schedule, const Tensor& t);
/// d eta / d t.
Tensor eta_derivative(Eta schedule, const Tensor& t);

}  // namespace vggflow
