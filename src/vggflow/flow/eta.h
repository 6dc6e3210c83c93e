#pragma once
// eta(t), the schedule of the reward gradient in the forward-looking value gradient g = -eta(t)
// grad r(x1_hat) + nu (VGG-Flow, Eq. 16), with eta(1) = 1:
//
//   constant    1
//   linear      t
//   quadratic   t^2
//   gaussian    s / sqrt(D),  D = t^2 s^2 + (1 - t)^2: d x_1 / d x_t along the flow from N(0, I) to
//               N(0, s^2 I). A gradient taken at the end point is then the adjoint of that base.
//   damped      1 / (1 + d V),  V = s^2 (1 - t)^2 / D, the variance of x_1 given x_t of such data,
//               d the reward's multiplier times its curvature: the tilt by -(k/2) |x - m|^2 at
//               multiplier lambda pulls by lambda / (1 + lambda k V) grad r at the mean of x_1
//               (arXiv 2606.02884)

#include "vggflow/core/field.h"
#include "vggflow/ops/dual.h"

namespace vggflow {

/// The kinds above.
enum class Eta { kConstant, kLinear, kQuadratic, kGaussian, kDamped };
inline OptionWords<Eta> option_words(Eta) {
  return {{"constant", Eta::kConstant},
          {"linear", Eta::kLinear},
          {"quadratic", Eta::kQuadratic},
          {"gaussian", Eta::kGaussian},
          {"damped", Eta::kDamped}};
}

/// A kind with what it needs besides: width s, damping d.
struct EtaSchedule {
  EtaSchedule(Eta of = Eta::kQuadratic) : kind(of) {}
  Eta kind;
  double width = 1;
  double damping = 1;

  template <class V>
  void fields(V& v) {
    v("eta", kind,
      "weight of the reward gradient in g by time: 1, t, t^2, that of Gaussian data, or damped "
      "where the end point is uncertain; not used by a coarse guess");
    v("eta_width", width, "for gaussian and damped: standard deviation of the data",
      range(1e-3, 1e3));
    v("eta_damping", damping, "for damped: reward multiplier times reward curvature",
      range(0, 1e12));
  }
};

Tensor eta(const EtaSchedule& schedule, const Tensor& t);
/// d eta / d t.
Tensor eta_derivative(const EtaSchedule& schedule, const Tensor& t);

}  // namespace vggflow
