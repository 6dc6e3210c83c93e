#pragma once
// A whole block of joint attention in one call, by the CPU's dot products of bf16
// (kernels/narrow.h), where no gradient is asked for. What it computes is
//
//   y = layer_norm_modulate(x, shift, scale)    of each stream, in bf16
//   a = attention([qkv(y_image), qkv(y_text)])  over both streams
//   x = x + gate out(a)
//   x = x + mlp_gate back(gelu_tanh(in(layer_norm_modulate(x, mlp_shift, mlp_scale))))
//
// the composition of functional.h's functions, but for roundings to bf16: GELU takes the sum of a
// product before it is rounded, and so does the gate; attention's weights are rounded.

#include <memory>
#include <mutex>
#include <vector>

#include "vggflow/ops/dual.h"

namespace vggflow::ops {

/// A linear layer: (out, in) and (out), both bf16.
struct LayerWeights {
  Tensor weight, bias;
};
/// The layers of one stream. One that ends with the block has only q, k and v.
struct StreamLayers {
  LayerWeights q, k, v, out, in, back;
};
/// Rows (B, D) of any float type; a stream that ends has only shift and scale.
struct StreamModulations {
  Tensor shift, scale, gate, mlp_shift, mlp_scale, mlp_gate;
};
/// One stream's part of a block.
struct BlockStream {
  StreamLayers layers;
  StreamModulations modulations;
};

/// Runs a block, and keeps its weights as the kernel wants them: they are laid out again where a
/// tensor is another one or was written to. Calls from several threads are safe.
class JointBlockKernel {
 public:
  JointBlockKernel();
  ~JointBlockKernel();
  /// Whether the kernel takes a block with these streams (B, N, D) and layers: this processor has
  /// it, streams are fp32 and weights bf16 on the CPU, none asks for a gradient, widths are even
  /// and at most 512 (the layout doubles the memory of weights), and kernels are not off.
  static bool takes(const Tensor& image, const Tensor& text, const BlockStream& image_part,
                    const BlockStream& text_part, int64_t heads);
  /// Replaces image and, unless it ends here, text.
  void run(Tensor& image, Tensor& text, const BlockStream& image_part, const BlockStream& text_part,
           int64_t heads, double eps) const;

 private:
  struct Packed;
  std::shared_ptr<const Packed> packed(const StreamLayers& image, const StreamLayers& text) const;
  mutable std::mutex mutex_;
  mutable std::shared_ptr<const Packed> packed_;
};

}  // namespace vggflow::ops
