#pragma once
// NormGuard (arXiv 2606.27771) around any method: training on rewards lengthens the velocity, which
// shows as over-sharp and over-saturated images. A hinge holds its norm, at every state that a
// method trains on, guided as the method's own calls are:
//
//   rho = |v_theta| / |v_base|,   L_norm = weight mean relu(rho - 1 - margin)^2
//
// norms over a sample's elements. Its gradient is radial, 2 weight relu(rho - 1 - margin) v_theta /
// (|v_theta| |v_base|), and zero inside. It is added where the method's own gradient reaches
// v_theta: through DRaFT's steps and the meeting points of leaps it goes on to earlier states, as
// the reward's does. The mean is over the states that an update trains on, were all finite.
//
// Telemetry at those states: norm_ratio (mean rho), norm_above (share of rho > 1), velocity_cosine
// (mean cos(v_theta, v_base)), policy_energy (mean |v_theta - v_base|^2 over elements), and the
// first and third by step of the grid. Each state costs one forward of the base.

#include <memory>

#include "vggflow/algorithms/method.h"
#include "vggflow/core/field.h"

namespace vggflow {

struct NormGuardOptions {
  double weight = 0;
  double margin = 0;
  int64_t every = 0;

  template <class V>
  void fields(V& v) {
    v("weight", weight,
      "weight of a hinge loss on |v_theta| / |v_base| above 1 + margin at the trained states; 0: "
      "no loss",
      range(0, 1e12));
    v("margin", margin, "margin of the hinge above 1", range(0, 1e6));
    v("every", every,
      "updates between measurements of |v_theta| / |v_base|, their cosine and |v_theta - v_base|^2 "
      "at the trained states, one forward pass of the base each; weight > 0 measures at every "
      "update; 0: never",
      range(0, 1e7));
  }
  /// Whether an update measures.
  bool measures(uint64_t update) const {
    return weight > 0 || (every > 0 && update % static_cast<uint64_t>(every) == 0);
  }
};

/// The method with the hinge and the telemetry; itself where both are off.
std::unique_ptr<Method> guarded(std::unique_ptr<Method> method, const NormGuardOptions& options);

}  // namespace vggflow
