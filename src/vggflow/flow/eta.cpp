#include "vggflow/flow/eta.h"

#include <ATen/ATen.h>

namespace vggflow {
namespace {

// D of the head, and its derivative.
Tensor spread(double s, const Tensor& t) { return s * s * t.square() + (1 - t).square(); }
Tensor spread_derivative(double s, const Tensor& t) { return 2 * (s * s * t - (1 - t)); }

Tensor variance(double s, const Tensor& t) { return s * s * (1 - t).square() / spread(s, t); }
Tensor variance_derivative(double s, const Tensor& t) {
  const Tensor d = spread(s, t), left = 1 - t;
  return -s * s * left * (2 * d + left * spread_derivative(s, t)) / d.square();
}

}  // namespace

Tensor eta(const EtaSchedule& o, const Tensor& t) {
  switch (o.kind) {
    case Eta::kConstant:
      return at::ones_like(t);
    case Eta::kLinear:
      return t;
    case Eta::kGaussian:
      return o.width * spread(o.width, t).rsqrt();
    case Eta::kDamped:
      return (1 + o.damping * variance(o.width, t)).reciprocal();
    case Eta::kQuadratic:
      break;
  }
  return t * t;
}

Tensor eta_derivative(const EtaSchedule& o, const Tensor& t) {
  switch (o.kind) {
    case Eta::kConstant:
      return at::zeros_like(t);
    case Eta::kLinear:
      return at::ones_like(t);
    case Eta::kGaussian:
      return -o.width / 2 * spread_derivative(o.width, t) * spread(o.width, t).pow(-1.5);
    case Eta::kDamped:
      return -o.damping * variance_derivative(o.width, t) * eta(o, t).square();
    case Eta::kQuadratic:
      break;
  }
  return 2 * t;
}

}  // namespace vggflow
