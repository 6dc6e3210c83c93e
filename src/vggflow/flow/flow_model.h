#pragma once
// A text-to-image flow model as sampling, alignment and evaluation see it, whatever its family:
// prompts become conditioning, a network gives velocities v(x, t) of states x on the way from noise
// (t = 0) to data (t = 1), and the end points x_1 become images. The family owns what it is made
// of: its clock and the sign of what it predicts, the names of its layers, its sizes.

#include <memory>
#include <string>
#include <vector>

#include "vggflow/flow/conditioning.h"
#include "vggflow/nn/module.h"
#include "vggflow/nn/pass_counter.h"
#include "vggflow/ops/pair.h"

namespace vggflow {

/// How the model's own pipeline spaces its noise levels: f(s) = shift s / (1 + (shift - 1) s),
/// applied twice by diffusers' SD3.
struct FlowSchedule {
  double shift = 1.0;
  bool shifts_twice = false;
};

/// What a network is trained for.
struct NetworkInputs {
  std::vector<int64_t> state;  ///< (C, H, W) of x; other sizes may do as well
  int64_t context_width = 0;   ///< channels of Conditioning::context, 0: it is not used
  int64_t pooled_width = 0;    ///< channels of Conditioning::pooled, 0: it is not used
};

/// A velocity field of states, times and prompts.
class FlowNetwork {
 public:
  virtual ~FlowNetwork() = default;
  /// v (B, C, H, W) fp32 at x (B, C, H, W) fp32 and t (B) in [0, 1]; one row of `conditioning` per
  /// sample.
  virtual Tensor velocity(const Tensor& x, const Tensor& t,
                          const Conditioning& conditioning) const = 0;
  virtual Dual velocity(const Dual& x, const Dual& t, const Conditioning& conditioning) const = 0;
  /// Whether velocities are rounded well above fp32 and velocity_pair() gives what a difference of
  /// two calls would lose. Without it the methods take such a difference.
  virtual bool computes_narrow() const { return false; }
  /// Of a network with adapters, without gradient: (v without them, what they change of it), the
  /// latter to the network's own rounding (ops/pair.h). Undefined where there are no adapters.
  virtual Pair velocity_pair(const Tensor& x, const Tensor& t,
                             const Conditioning& conditioning) const;
  virtual NetworkInputs inputs() const = 0;
  /// The layers, by the paths that LoRA files give them: adapters sit on the linear ones.
  virtual Module& network() = 0;
  virtual const Module& network() const = 0;
  /// Path of the linear layer that gives the prediction.
  virtual std::string output_layer() const = 0;
  /// A second network that shares this one's tensors: they are held once, and a tensor or an
  /// adapter that is set on one of its layers is its own. Later changes in place are seen by both.
  virtual std::unique_ptr<FlowNetwork> view() const = 0;
  /// A network of the same inputs at another width (a multiple of 32) and depth, with fresh weights
  /// whose velocity is zero everywhere. Its x is `states` of this one's side by side, (B, states C,
  /// H, W), and its velocity as wide.
  virtual std::unique_ptr<FlowNetwork> small(int64_t width, int64_t layers, int64_t states,
                                             uint64_t seed) const = 0;
  /// Counts the passes of this network in `counter` from now on; null: counts nothing.
  virtual void count_passes(std::shared_ptr<PassCounter> counter) = 0;
};

/// A network (the frozen base) with what makes its inputs of prompts and images of its results.
class FlowModel : public FlowNetwork {
 public:
  /// One row per prompt.
  virtual Conditioning encode(const std::vector<std::string>& prompts) const = 0;
  /// `count` rows of what guidance leads away from: the empty prompt, or a negative one.
  virtual Conditioning unconditional(int64_t count) const = 0;
  /// Encodes prompts that will be asked for, so that text encoders need not stay in memory; without
  /// it encode() does so when asked. Of several processes all make this call with the same prompts:
  /// rank 0 encodes them.
  virtual void prepare(const std::vector<std::string>& prompts) const {}
  /// (C, H, W) of a state x.
  virtual std::vector<int64_t> state_shape() const = 0;
  /// Images (B, 3, H, W), about [-1, 1], of end points x_1 (B, C, h, w); differentiable.
  virtual Tensor decode(const Tensor& x1) const = 0;
  virtual Dual decode(const Dual& x1) const = 0;
  virtual FlowSchedule schedule() const { return {}; }
  /// One line for logs.
  virtual std::string description() const = 0;
};

}  // namespace vggflow
