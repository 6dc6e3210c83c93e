#pragma once
// A whole block of joint attention in one call, by the CPU's dot products of bf16
// (kernels/narrow.h), with a backward pass of its own. What it computes is
//
//   y = layer_norm_modulate(x, shift, scale)    of each stream, in bf16
//   a = attention([qkv(y_image), qkv(y_text)])  over both streams
//   x = x + gate out(a)
//   x = x + mlp_gate back(gelu_tanh(in(layer_norm_modulate(x, mlp_shift, mlp_scale))))
//
// the composition of functional.h's functions, but for roundings to bf16: GELU takes the sum of a
// product before it is rounded, and so does the gate; attention's weights are rounded.

#include "vggflow/ops/pair.h"

namespace vggflow::ops {

/// A linear layer: (out, in) and (out), both bf16; with an adapter A (r, in), B (out, r), which
/// adds scale * (x A^T) B^T, or without.
struct LayerWeights {
  Tensor weight, bias, a = {}, b = {};
  double scale = 1;
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

/// Whether this processor has the kernel, for blocks of that width.
bool joint_block_serves(int64_t width, int64_t head_dim);
/// Whether joint_block takes a block with these streams (B, N, D) and layers: this processor has
/// the dot products, streams are fp32 and weights bf16 on the CPU, only q, k, v and out have
/// adapters, gradients are asked for streams and adapters alone, heads have an even number of
/// channels, the width is at most 512 (laying weights out takes their memory once more, and for
/// gradients twice), and kernels are not off.
bool joint_block_takes(const Tensor& image, const Tensor& text, const BlockStream& image_part,
                       const BlockStream& text_part, int64_t heads);
/// Replaces image and, unless it ends here, text. Weights are laid out once for the kernel, and
/// again where one is another tensor or was written to; the layout goes when the weights have gone
/// and another block is laid out. Calls from several threads are safe.
void joint_block(Tensor& image, Tensor& text, const BlockStream& image_part,
                 const BlockStream& text_part, int64_t heads, double eps);
/// The same of pairs: of a base, and what dx and the layers' adapters change of it. Modulations
/// have no difference; no graph is recorded.
bool joint_block_takes(const Pair& image, const Pair& text, const BlockStream& image_part,
                       const BlockStream& text_part, int64_t heads);
void joint_block(Pair& image, Pair& text, const BlockStream& image_part,
                 const BlockStream& text_part, int64_t heads, double eps);

/// The composition above, in the streams' type: the kernel's specification.
void joint_block_plain(Tensor& image, Tensor& text, const BlockStream& image_part,
                       const BlockStream& text_part, int64_t heads, double eps);

/// A block of random numbers: what the kernel is held against its specification on.
struct RandomBlock {
  RandomBlock(int64_t batch, int64_t image_tokens, int64_t text_tokens, int64_t heads,
              int64_t head_dim, bool text_ends);
  bool taken() const { return joint_block_takes(image, text, image_part, text_part, heads); }
  /// The error of what the block changes of the streams, relative by norm.
  double error() const;
  /// The same of the gradients of streams and of adapters of q, k, v and out, and of the result
  /// with these adapters, for random gradients of the results.
  double gradient_error() const;
  /// The error of a pair's difference, for dx of `size` and adapters of every layer of the image:
  /// against two compositions in fp64.
  double difference_error(double size) const;
  Tensor image, text;
  BlockStream image_part, text_part;
  int64_t heads;
};

}  // namespace vggflow::ops
