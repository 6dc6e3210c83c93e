#pragma once
// Classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598) of a flow's velocity.

#include "vggflow/flow/flow_model.h"

namespace vggflow {

/// v = v_unc + w (v_con - v_unc) of a batch of prompts; w = 1 runs the conditional branch alone.
class GuidedVelocity {
 public:
  /// `conditioning` has one row per sample; `network` must outlive this.
  GuidedVelocity(const FlowNetwork& network, Conditioning conditioning, Conditioning unconditional,
                 double guidance, bool detach_unconditional = true);
  /// x (B, C, H, W), t (B); both branches run as one batch unless the unconditional one is left out
  /// of the gradient.
  template <TensorLike T>
  T operator()(const T& x, const T& t) const;
  /// The same for a subset of the samples (row indices), x (M, ...), t (M).
  GuidedVelocity rows(const Tensor& indices) const;
  /// The same prompts and guidance of another network, which must outlive the result.
  GuidedVelocity of(const FlowNetwork& network) const;
  /// v_con, the conditional branch alone.
  Tensor conditional(const Tensor& x, const Tensor& t) const;
  /// The network's pairs (FlowNetwork::velocity_pair) of the branches that guidance takes, in one
  /// batch: (2 B, ...), the unconditional ones first; of guidance 1 (B, ...), the conditional ones.
  Pair branches(const Tensor& x, const Tensor& t) const;
  /// v_unc + w (v_con - v_unc) of both branches of anything; what has one branch is left as it is.
  Tensor mixed(const Tensor& branches) const;
  /// v_con alone of the same.
  Tensor conditional_of(const Tensor& branches) const;
  void set_detach_unconditional(bool on) { detach_unconditional_ = on; }
  void set_guidance(double scale) { guidance_ = scale; }

 private:
  const FlowNetwork* network_;
  Conditioning conditioning_, unconditional_;
  double guidance_;
  bool detach_unconditional_;
};

}  // namespace vggflow
