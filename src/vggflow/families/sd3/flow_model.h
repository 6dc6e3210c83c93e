#pragma once
// A text-to-image flow model as sampling, alignment and evaluation see it: prompts become
// conditioning, a network gives velocities of states x, and the end points x_1 become images.

#include <memory>
#include <string>
#include <vector>

#include "vggflow/families/sd3/mmdit.h"

namespace vggflow {

/// How the model's own pipeline spaces its noise levels: f(s) = shift s / (1 + (shift - 1) s),
/// applied twice by diffusers' SD3.
struct FlowSchedule {
  double shift = 1.0;
  bool shifts_twice = false;
};

class FlowModel {
 public:
  virtual ~FlowModel() = default;
  virtual Mmdit& network() = 0;
  virtual const Mmdit& network() const = 0;
  /// One row a prompt.
  virtual Conditioning encode(const std::vector<std::string>& prompts) const = 0;
  /// `count` rows of what guidance leads away from: the empty prompt, or a negative one.
  virtual Conditioning unconditional(int64_t count) const = 0;
  /// Encodes prompts that will be asked for, so that text encoders need not stay in memory; without
  /// it encode() does so when asked.
  virtual void prepare(const std::vector<std::string>& prompts) const {}
  /// (C, H, W) of a state x.
  virtual std::vector<int64_t> state_shape() const = 0;
  /// Images (B, 3, H, W), about [-1, 1], of end points x_1 (B, C, h, w); differentiable.
  virtual Tensor decode(const Tensor& x1) const = 0;
  virtual Dual decode(const Dual& x1) const = 0;
  virtual FlowSchedule schedule() const { return {}; }
  /// One line for logs.
  virtual std::string description() const { return network().description(); }
};

/// bf16 where the current device multiplies it in hardware, else fp32.
at::ScalarType fast_dtype();
/// dtype of the setting "auto" (fast_dtype), "bf16" or "fp32".
at::ScalarType precision_dtype(const std::string& precision);

/// The flow's velocity v = -u(x, 1000 (1 - t)) of a prompt batch with classifier-free guidance,
/// v = v_unc + w (v_con - v_unc); w = 1 runs the conditional branch alone.
class GuidedVelocity {
 public:
  /// `conditioning` has one row a sample.
  GuidedVelocity(const Mmdit& network, Conditioning conditioning, Conditioning unconditional,
                 double guidance, bool detach_unconditional = true);
  /// x (B, C, H, W), t (B); both branches run as one batch unless the unconditional one is left out
  /// of the gradient.
  template <TensorLike T>
  T operator()(const T& x, const T& t) const;
  /// The same for a subset of the samples (row indices), x (M, ...), t (M).
  GuidedVelocity rows(const Tensor& indices) const;
  /// v_con, the conditional branch alone.
  Tensor conditional(const Tensor& x, const Tensor& t) const;
  void set_detach_unconditional(bool on) { detach_unconditional_ = on; }
  void set_guidance(double scale) { guidance_ = scale; }

 private:
  const Mmdit& network_;
  Conditioning conditioning_, unconditional_;
  double guidance_;
  bool detach_unconditional_;
};

}  // namespace vggflow
