#include "vggflow/flow/eta.h"

#include <ATen/ATen.h>

namespace vggflow {

Tensor eta(const std::string& schedule, const Tensor& t) {
  return schedule == "constant" ? at::ones_like(t) : schedule == "linear" ? t : t * t;
}

Tensor eta_derivative(const std::string& schedule, const Tensor& t) {
  return schedule == "constant" ? at::zeros_like(t)
         : schedule == "linear" ? at::ones_like(t)
                                : 2 * t;
}

}  // namespace vggflow
