#pragma once
// eta(t), the schedule of the reward gradient in the forward-looking value gradient g = -eta(t)
// grad r(x1_hat) + nu (VGG-Flow, Eq. 16): "constant" 1, "linear" t, "quadratic" t^2.

#include <string>

#include "vggflow/ops/dual.h"

namespace vggflow {

Tensor eta(const std::string& schedule, const Tensor& t);
/// d eta / d t.
Tensor eta_derivative(const std::string& schedule, const Tensor& t);

}  // namespace vggflow
