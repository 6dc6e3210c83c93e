#include "vggflow/flow/eta.h"

#include <ATen/ATen.h>

namespace vggflow {

Tensor eta(Eta schedule, const Tensor& t) {
  switch (schedule) {
    case Eta::kConstant:
      return at::ones_like(t);
    case Eta::kLinear:
      return t;
    case Eta::kQuadratic:
      break;
  }
  return t * t;
}

Tensor eta_derivative(Eta schedule, const Tensor& t) {
  switch (schedule) {
    case Eta::kConstant:
      return at::zeros_like(t);
    case Eta::kLinear:
      return at::ones_like(t);
    case Eta::kQuadratic:
      break;
  }
  return 2 * t;
}

}  // namespace vggflow
