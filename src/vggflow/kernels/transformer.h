#pragma once
// Fused CPU kernels of a transformer block: fp32 arithmetic over fp32 or bf16 memory. The residual
// stream x is fp32; what goes into matrix products (T) is fp32 or bf16. Every function does the
// items [begin, end) of its outer loop, so that the caller decides on threads. One source
// (transformer_impl.h) is compiled for AVX-512, AVX2 and the baseline and chosen at run time;
// transformer_test.cpp holds each against loops written to be read.

#include <cstdint>
#include <string>
#include <vector>

namespace vggflow::kernels {

/// The upper half of an fp32; kernels round to nearest even.
struct bf16 {
  uint16_t bits;
};

/// Where a modulation vector (B, D) lies: row b starts at data + b * stride.
struct Rows {
  const float* data;
  int64_t stride;
};

/// The functions for one element type T of the matrix products. B batch, N tokens, D width, H heads
/// of D/H channels.
template <class T>
struct TransformerKernels {
  /// y = LN(x) * (1 + scale) + shift for the samples [begin, end); mean, rstd (B * N) are saved for
  /// the backward pass.
  void (*ln_modulate)(const float* x, Rows shift, Rows scale, int64_t n, int64_t d, float eps, T* y,
                      float* mean, float* rstd, int64_t begin, int64_t end);
  /// gx (B, N, D), gshift and gscale (B, D) from gy.
  void (*ln_modulate_backward)(const T* gy, const float* x, Rows scale, const float* mean,
                               const float* rstd, int64_t n, int64_t d, float* gx, float* gshift,
                               float* gscale, int64_t begin, int64_t end);
  /// out = x + gate * y for the samples [begin, end).
  void (*gated_add)(const float* x, Rows gate, const T* y, int64_t n, int64_t d, float* out,
                    int64_t begin, int64_t end);
  /// gy = gate * gout and ggate = sum_n gout * y; x's gradient is gout itself.
  void (*gated_add_backward)(const float* gout, Rows gate, const T* y, int64_t n, int64_t d, T* gy,
                             float* ggate, int64_t begin, int64_t end);
  /// y = gelu_tanh(x) for the elements [begin, end).
  void (*gelu)(const T* x, T* y, int64_t begin, int64_t end);
  void (*gelu_backward)(const T* x, const T* gy, T* gx, int64_t begin, int64_t end);
  /// out (B, N, D) = softmax(q k^T / sqrt(D/H)) v for packed qkv (B, N, 3D); items are (b, h),
  /// b-major. lse (B, H, N) is the log of each softmax denominator, saved for the backward pass; it
  /// may be null.
  void (*attention)(const T* qkv, int64_t n, int64_t d, int64_t heads, T* out, float* lse,
                    int64_t begin, int64_t end);
  void (*attention_backward)(const T* gout, const T* qkv, const T* out, const float* lse, int64_t n,
                             int64_t d, int64_t heads, T* gqkv, int64_t begin, int64_t end);

  // A value and a difference (ops/pair.h): y = f(x) and dy = f(x + dx) - f(x), without cancellation
  // where rows are normalised and in GELU; that of attention is taken in fp32.

  /// ln_modulate of (x, shift, scale) and (x + dx, shift + dshift, scale + dscale).
  void (*ln_modulate_pair)(const float* x, const float* dx, Rows shift, Rows scale, Rows dshift,
                           Rows dscale, int64_t n, int64_t d, float eps, T* y, T* dy, int64_t begin,
                           int64_t end);
  void (*gelu_pair)(const T* x, const T* dx, T* y, T* dy, int64_t begin, int64_t end);
  void (*attention_pair)(const T* qkv, const T* dqkv, int64_t n, int64_t d, int64_t heads, T* out,
                         T* dout, int64_t begin, int64_t end);
};

/// One AdamW update (Loshchilov and Hutter 2019) of the elements [begin, end):
/// m = b1 m + (1-b1) g; v = b2 v + (1-b2) g^2; p -= lr (m / c1 / (sqrt(v / c2) + eps) + wd p), c_i
/// = 1 - b_i^step.
struct AdamWStep {
  float lr, beta1, beta2, eps, weight_decay, correction1, correction2;
};
using AdamWKernel = void (*)(const AdamWStep& step, const float* g, float* p, float* m, float* v,
                             int64_t begin, int64_t end);

struct KernelTable {
  std::string isa;  ///< "avx512", "avx2" or "baseline"
  TransformerKernels<float> f32;
  TransformerKernels<bf16> b16;
  AdamWKernel adamw;
};

const KernelTable& avx512_table();  ///< x86 alone, as avx2_table
const KernelTable& avx2_table();
const KernelTable& baseline_table();
/// The tables that this processor runs, the fastest last: dispatch_x86.cpp, dispatch_baseline.cpp.
const std::vector<const KernelTable*>& tables();
/// The fastest.
const KernelTable& best_table();

}  // namespace vggflow::kernels
