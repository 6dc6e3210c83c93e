#pragma once
// LeapAlign (arXiv 2604.15311, CVPR 2026): two leaps stand for the rollout, and the end that it
// really reached is scored.
//
//   k < j two distinct steps, uniform, one draw a trajectory; v_k, v_j with gradient,
//   x_j_hat = x_k + (t_j - t_k) v_k,   x1_hat = x_j + (1 - t_j) v_j,
//   straight through: the values stay x_j and x_N, the gradients are the leaps',
//   input of the network at j: alpha x_j_hat + (1 - alpha) sg(x_j),
//   w = 1 / (max(d_j, tau) + max(d_0, tau)),
//   d_j = mean |x_j - x_j_hat|,   d_0 = mean |x_N - x1_hat|,
//   G = -(w / B) f'(r) grad r(x_N),
//   grad_theta = (1 - t_j) [d v_j / d theta]^T G
//              + (t_j - t_k) [d v_k / d theta]^T (G + alpha (1 - t_j) [d v_j / d x_j]^T G).

#include <string>
#include <utility>
#include <vector>

#include "vggflow/algorithms/surrogate.h"

namespace vggflow {

struct LeapAlignOptions {
  double alpha = 0.3;
  double tau = 0.1;
  RewardTransformOptions transform;

  template <class V>
  void fields(V& v) {
    v("alpha", alpha, "scale of the gradient through the network's input at the landing point",
      range(0, 1));
    v("tau", tau,
      "mean absolute error of a leap below which it counts as exact; a trajectory's weight falls "
      "with its leaps' errors",
      range(1e-6, 1e6));
    v.section("transform", transform);
  }

  static MethodTrials trials();
};

class LeapAlign : public Ascent {
 public:
  LeapAlign(const LeapAlignOptions& options, const RewardClipOptions& clip)
      : Ascent("leapalign", options.transform, clip), options_(options) {}
  void check(int64_t steps) const override;

 protected:
  Surrogates draw(const Trajectory& trajectory, const UpdateInput& input) const override;
  double terms() const override { return 1; }
  bool has_joint() const override { return true; }

 private:
  LeapAlignOptions options_;
};

/// The terms of leaps from k to j and from j to the end.
Surrogate leap_surrogate(const std::vector<double>& times, int64_t k, int64_t j);

}  // namespace vggflow
