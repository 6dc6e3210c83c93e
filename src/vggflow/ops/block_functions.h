#pragma once
// The larger pieces of a transformer block and of a step, for Tensor and Dual: one pass over memory
// where a device has the kernel, compositions of functional.h's elsewhere.

#include "vggflow/kernels/transformer.h"
#include "vggflow/ops/functional.h"

namespace vggflow::ops {

/// What a gate and the modulation after it make: the residual stream and the next layer's input.
template <TensorLike T>
struct Gated {
  T stream, modulated;
};
/// stream = gated_add(x, gate, y), modulated = layer_norm_modulate(stream, shift, scale, eps) of
/// y's dtype: one pass over memory on a device.
Gated<Tensor> gated_add_modulate(const Tensor& x, const Tensor& gate, const Tensor& y,
                                 const Tensor& shift, const Tensor& scale, double eps);
Gated<Dual> gated_add_modulate(const Dual& x, const Dual& gate, const Dual& y, const Dual& shift,
                               const Dual& scale, double eps);
/// Weights (D/H) of the RMS norms of queries and keys.
struct QkWeights {
  Tensor q, k;
};
/// Packed qkv (B, N, 3D) with the RMS norm over each head's channels applied to queries and keys.
template <TensorLike T>
T normalize_qk(const T& qkv, const QkWeights& weights, int64_t heads, double eps);
/// Two streams (B, N, 3D) and (B, M, 3D), each normalised by its own weights, as (B, N + M, 3D).
template <TensorLike T>
T normalize_qk(const T& first, const QkWeights& first_weights, const T& second,
               const QkWeights& second_weights, int64_t heads, double eps);
/// y + scale * u B^T: the way up of a low-rank adapter, B (D, r) on u (..., r), y (..., D).
Tensor lora_up(const Tensor& y, const Tensor& u, const Tensor& b, double scale);
Dual lora_up(const Dual& y, const Dual& u, const Tensor& b, double scale);
/// One AdamW step (kernels/transformer.h has the formula) on flat fp32 buffers, in place.
void adamw_step(const kernels::AdamWStep& step, const Tensor& gradient, Tensor& values, Tensor& m,
                Tensor& v);

}  // namespace vggflow::ops
