#pragma once
// Reward gradients as every method takes them: at given end points, per-sample bounded, with the
// non-finite ones marked.

#include <string>

#include "vggflow/algorithms/problem.h"
#include "vggflow/algorithms/whole_batch.h"
#include "vggflow/core/field.h"
#include "vggflow/flow/eta.h"

namespace vggflow {

/// What bounds the norm of a reward gradient.
enum class ClipBound { kQuantile, kNorm, kNone };
inline OptionWords<ClipBound> option_words(ClipBound) {
  return {
      {"quantile", ClipBound::kQuantile}, {"norm", ClipBound::kNorm}, {"none", ClipBound::kNone}};
}

/// Bound on the norm of each sample's reward gradient, and how several rewards share it.
struct RewardClipOptions {
  ClipBound kind = ClipBound::kQuantile;
  double quantile = 0.8;
  double norm = 1.0;
  bool balance = false;

  template <class V>
  void fields(V& v) {
    v("kind", kind,
      "clipping of reward gradients: at a quantile of the batch's norms, at a fixed norm, or none");
    v("quantile", quantile, "quantile", range(0, 1));
    v("norm", norm, "fixed norm", range(0, 1e12));
    v("balance", balance,
      "for a weighted sum: scale each reward so that its share of the mean gradient norm equals "
      "its share of the weights");
  }
};

/// r, relu(r), -relu(top - r).
enum class RewardTransform { kIdentity, kRelu, kReluBelow };
inline OptionWords<RewardTransform> option_words(RewardTransform) {
  return {{"identity", RewardTransform::kIdentity},
          {"relu", RewardTransform::kRelu},
          {"relu_below", RewardTransform::kReluBelow}};
}

/// What ReFL and DRaFT maximise in place of r. The original ReFL minimises relu(2 - r), which
/// saturates at the top; the VGG-Flow paper's baselines maximise relu(r), the identity for rewards
/// that are always positive.
struct RewardTransformOptions {
  RewardTransform kind = RewardTransform::kIdentity;
  double top = 2.0;

  template <class V>
  void fields(V& v) {
    v("kind", kind, "objective: r, relu(r), or -relu(top - r)");
    v("top", top, "top, for relu_below", range(-1e9, 1e9));
  }
};

/// The reward's part of g (VGG-Flow, Eq. 16): -eta(t) grad r at times t (M).
Tensor reward_part(const EtaSchedule& schedule, const Tensor& t, const Tensor& gradient);

/// Rewards and gradients at M end points. With r = sum_p w_p r_p and n_p the batch's mean of |grad
/// r_p|, a balanced gradient is sum_p w_p (n / n_p) grad r_p, n = sum_p |w_p| n_p / sum_p |w_p|:
/// each part's share of it is its weight's.
struct RewardGradients {
  Tensor reward;         ///< (M) r, whatever the balance
  Tensor gradient;       ///< (M, ...) c grad r; zero where not finite
  Tensor factor;         ///< (M) c = min(1, threshold / |grad r|); 0 where not finite
  Tensor finite;         ///< (M) bool: reward and gradient are finite
  Tensor weights;        ///< (P) of the parts in the gradient: w_p, or w_p n / n_p
  double threshold = 0;  ///< norm above which gradients were scaled
};

/// r and c grad r at x1 (M, ...), in chunks of `micro_batch`. The quantile and the balance are
/// those of the whole batch.
RewardGradients reward_gradients(AlignmentProblem& problem, const RewardClipOptions& clip,
                                 const Tensor& x1, const Tensor& rows, int64_t micro_batch,
                                 const WholeBatch& whole = {});

/// r (B) of all samples' end points, without gradient.
Tensor reward_values(AlignmentProblem& problem, const Tensor& x1);

/// H d, the Hessian-vector product of sum_p weights_p r_p at x1, by reverse mode through the
/// tangent <grad r, d>.
Tensor reward_hessian_product(AlignmentProblem& problem, const Tensor& weights, const Tensor& x1,
                              const Tensor& d, const Tensor& rows);

/// f(r) (M) of the transform.
Tensor transformed(const RewardTransformOptions& transform, const Tensor& reward);

/// d f(r) / d r (M).
Tensor transform_slope(const RewardTransformOptions& transform, const Tensor& reward);

}  // namespace vggflow
