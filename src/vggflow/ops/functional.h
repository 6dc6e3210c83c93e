#pragma once
// The differentiable functions that networks and rewards are made of, for Tensor and for Dual
// alike. On Tensor the hot ones run a fused kernel (kernels/) with a hand-written backward; on Dual
// every one is a composition of plain ops. Shapes: B batch, N tokens, D channels, H heads. They
// live in namespace ops and are called by their full name, ops::silu(x): argument-dependent lookup
// would otherwise find ATen's functions of the same name beside them.

#include <vector>

#include "vggflow/ops/dual.h"

namespace vggflow {

// ---- elementwise and shape: y = f(x), dy = f'(x) dx
// ------------------------------------------------------------------
Dual operator+(const Dual& a, const Dual& b);
Dual operator-(const Dual& a, const Dual& b);
Dual operator*(const Dual& a, const Dual& b);
Dual operator/(const Dual& a, const Dual& b);
Dual operator+(const Dual& a, const Tensor& b);
Dual operator*(const Dual& a, const Tensor& b);
Dual operator+(const Dual& a, double b);
Dual operator-(const Dual& a, double b);
Dual operator*(const Dual& a, double b);

namespace ops {

Tensor silu(const Tensor& x);
Dual silu(const Dual& x);
Tensor relu(const Tensor& x);
Dual relu(const Dual& x);
Tensor tanh(const Tensor& x);
Dual tanh(const Dual& x);
Tensor square(const Tensor& x);
Dual square(const Dual& x);
/// sqrt(x + eps); eps keeps the derivative finite at 0.
Tensor safe_sqrt(const Tensor& x, double eps);
Dual safe_sqrt(const Dual& x, double eps);
/// x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), the GELU of SD3's feed-forward layers. Fused on
/// Tensor.
Tensor gelu_tanh(const Tensor& x);
Dual gelu_tanh(const Dual& x);
/// x Phi(x), Phi the standard normal distribution: the exact GELU.
Tensor gelu(const Tensor& x);
Dual gelu(const Dual& x);
/// x sigmoid(1.702 x), the GELU of OpenAI's CLIP.
Tensor quick_gelu(const Tensor& x);
Dual quick_gelu(const Dual& x);

Tensor reshape(const Tensor& x, at::IntArrayRef shape);
Dual reshape(const Dual& x, at::IntArrayRef shape);
Tensor permute(const Tensor& x, at::IntArrayRef dims);
Dual permute(const Dual& x, at::IntArrayRef dims);
Tensor narrow(const Tensor& x, int64_t dim, int64_t start, int64_t length);
Dual narrow(const Dual& x, int64_t dim, int64_t start, int64_t length);
Tensor cat(const std::vector<Tensor>& parts, int64_t dim);
Dual cat(const std::vector<Dual>& parts, int64_t dim);
Tensor unsqueeze(const Tensor& x, int64_t dim);
Dual unsqueeze(const Dual& x, int64_t dim);
Tensor to_dtype(const Tensor& x, at::ScalarType dtype);
Dual to_dtype(const Dual& x, at::ScalarType dtype);
Tensor sum(const Tensor& x, at::IntArrayRef dims, bool keepdim);
Dual sum(const Dual& x, at::IntArrayRef dims, bool keepdim);
Tensor mean(const Tensor& x, at::IntArrayRef dims, bool keepdim);
Dual mean(const Dual& x, at::IntArrayRef dims, bool keepdim);

// ---- linear maps
// -----------------------------------------------------------------------------------------------------
/// x (..., K) W^T (N, K) + b (N); b may be undefined.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias);
Dual linear(const Dual& x, const Tensor& weight, const Tensor& bias);
/// 2-D convolution of x (B, C, H, W) with weight (O, C/groups, kh, kw); b may be undefined.
Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, int64_t stride,
              int64_t padding, int64_t groups = 1);
Dual conv2d(const Dual& x, const Tensor& weight, const Tensor& bias, int64_t stride,
            int64_t padding, int64_t groups = 1);
/// Mean over windows of k x k, stride k.
Tensor avg_pool2d(const Tensor& x, int64_t k);
Dual avg_pool2d(const Dual& x, int64_t k);
/// Nearest-neighbour upsampling by 2.
Tensor upsample2x(const Tensor& x);
Dual upsample2x(const Dual& x);

// ---- normalisations, statistics in fp32
// ------------------------------------------------------------------------------
/// (x - mean) / sqrt(var + eps) over the last dimension, then * weight + bias where they are
/// defined.
Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps);
Dual layer_norm(const Dual& x, const Tensor& weight, const Tensor& bias, double eps);
/// x / sqrt(mean(x^2) + eps) * weight over the last dimension.
Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps);
Dual rms_norm(const Dual& x, const Tensor& weight, double eps);
/// Group normalisation of x (B, C, H, W), affine.
Tensor group_norm(const Tensor& x, int64_t groups, const Tensor& weight, const Tensor& bias,
                  double eps);
Dual group_norm(const Dual& x, int64_t groups, const Tensor& weight, const Tensor& bias,
                double eps);
/// x / |x| over the last dimension.
Tensor l2_normalize(const Tensor& x);
Dual l2_normalize(const Dual& x);

// ---- the pieces of a transformer block
// -------------------------------------------------------------------------------
/// adaLN: LN(x) * (1 + scale) + shift. x (B, N, D) fp32 or bf16; shift, scale (B, D); the result
/// has dtype `out`. Fused on Tensor.
Tensor layer_norm_modulate(const Tensor& x, const Tensor& shift, const Tensor& scale, double eps,
                           at::ScalarType out);
Dual layer_norm_modulate(const Dual& x, const Dual& shift, const Dual& scale, double eps,
                         at::ScalarType out);
/// x + gate * y. x (B, N, D), gate (B, D), y (B, N, D) of any float dtype; the result has x's
/// dtype. Fused on Tensor.
Tensor gated_add(const Tensor& x, const Tensor& gate, const Tensor& y);
Dual gated_add(const Dual& x, const Dual& gate, const Dual& y);
/// softmax(q k^T / sqrt(D/H)) v for packed qkv (B, N, 3D) -> (B, N, D), heads of D/H channels, no
/// mask. Fused on Tensor.
Tensor attention(const Tensor& qkv, int64_t heads);
Dual attention(const Dual& qkv, int64_t heads);
/// softmax(q k^T / sqrt(D/H) + bias) v for q (B, N, D) and k, v (B, M, D) -> (B, N, D); bias is
/// added to the scores (B, H, N, M), of any shape that broadcasts to them, or is undefined.
Tensor cross_attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads,
                       const Tensor& bias);
Dual cross_attention(const Dual& q, const Dual& k, const Dual& v, int64_t heads,
                     const Tensor& bias);
/// Sinusoids of a timestep t (B): (B, dim), cosines first (diffusers: flip_sin_to_cos,
/// downscale_freq_shift 0), frequencies 10000^(-i/(dim/2)).
Tensor timestep_embedding(const Tensor& timestep, int64_t dim);
Dual timestep_embedding(const Dual& timestep, int64_t dim);

}  // namespace ops
}  // namespace vggflow
