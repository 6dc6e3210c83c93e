#pragma once
// What a device's back end offers: fused kernels as plain functions on pointers, without a CUDA
// type, so that the program compiles without the toolkit. One source (rows.h) is compiled twice:
// for the GPU (device_kernels.cu, in the plug-in) and for the host (host_table.cpp), where
// device_table_test.cpp holds it against loops written to be read. Sums over rows are ordered
// partial sums and no atomics: results do not depend on scheduling.

#include <cstdint>

#include "vggflow/kernels/transformer.h"

namespace vggflow::kernels {

enum class Type : int32_t { kFloat, kBfloat16 };

/// Elements of either type behind one pointer. Null data: not there.
struct Array {
  const void* data = nullptr;
  Type type = Type::kFloat;
};

/// Rows b of a modulation (B, D) of either type: row b starts at element b * stride. Null data: not
/// there.
struct Modulation {
  const void* data = nullptr;
  int64_t stride = 0;
  Type type = Type::kFloat;
};

/// Partial sums over the rows of one sample that the column sums go through.
inline constexpr int64_t kRowsPerPartial = 32;
constexpr int64_t partials(int64_t rows) { return (rows + kRowsPerPartial - 1) / kRowsPerPartial; }

/// y = LN(x) (1 + scale) + shift for x (B, N, D) of x_type, y of y_type; mean, rstd (B N) are
/// saved. With dx, dy also the tangent along (dx, dshift, dscale).
struct LnModulate {
  const void *x, *dx;  ///< dx null: no tangent
  Modulation shift, scale, dshift, dscale;
  void *y, *dy;
  float *mean, *rstd;
  int64_t batch, rows, width;  ///< B, N, D
  float eps;
  Type x_type, y_type;
};

/// gx = add + the gradient through the normalisation; gshift, gscale (B, D) summed over rows.
struct LnModulateBackward {
  const void *gy, *x, *add;  ///< add (B, N, D) of x_type, or null
  Modulation scale;
  const float *mean, *rstd;
  void* gx;
  float *gshift, *gscale;
  float* partial;  ///< scratch of B * partials(N) * 2 D
  int64_t batch, rows, width;
  Type x_type, y_type;
};

/// out = x + gate * y for x, out (B, N, D) of x_type and y of y_type. With `next` also
/// next = LN(out) (1 + scale) + shift of y_type, and its mean and rstd. Tangents where dx is set.
struct Gate {
  const void *x, *y, *dx, *dy;
  Modulation gate, dgate, shift, scale, dshift, dscale;
  void *out, *dout, *next, *dnext;
  float *mean, *rstd;
  int64_t batch, rows, width;
  float eps;
  Type x_type, y_type;
};

/// gy = gate * gout of y_type and ggate (B, D) = sum over rows of gout * y; x's gradient is gout.
struct GateBackward {
  const void *gout, *y;
  Modulation gate;
  void* gy;
  float* ggate;
  float* partial;  ///< scratch of B * partials(N) * D
  int64_t batch, rows, width;
  Type x_type, y_type;
};

/// y = gelu_tanh(x), dy = gelu_tanh'(x) dx where dx is set, for `count` elements.
struct Gelu {
  const void *x, *dx;
  void *y, *dy;
  int64_t count;
  Type type;
};
struct GeluBackward {
  const void *gy, *x;
  void* gx;
  int64_t count;
  Type type;
};

/// One stream of packed queries, keys and values: qkv (B, rows, 3D), and the weights (D/H) of the
/// RMS norms of its queries and keys.
struct QkvStream {
  const void *qkv, *dqkv;  ///< dqkv null: no tangent
  void* gqkv;              ///< of the backward pass
  int64_t rows;
  Array q_weight, k_weight;
};

/// out (B, N + M, 3D): queries and keys of both streams normalised by head, values copied; the
/// second stream, where it has rows, follows the first. x / sqrt(mean(x^2) + eps) * weight.
struct QkNorm {
  QkvStream first, second;
  void *out, *dout;
  int64_t batch, heads, head_dim;
  float eps;
  Type type;
};
/// Gradients of both streams from gout (B, N + M, 3D); the weights are taken as constants.
struct QkNormBackward {
  QkvStream first, second;
  const void* gout;
  int64_t batch, heads, head_dim;
  float eps;
  Type type;
};

/// out = y + scale * u B^T for y, out (R, D), u (R, r), B (D, r) fp32; dout = dy + scale * du B^T
/// where dy is set. out may be y.
struct LoraUp {
  const void *y, *u, *dy, *du;
  const float* b;
  void *out, *dout;
  int64_t rows, width, rank;
  float scale;
  Type type;
};
/// gu (R, r) = scale * gout B of `type`, gb (D, r) = scale * gout^T u.
struct LoraUpBackward {
  const void *gout, *u;
  const float* b;
  void* gu;
  float *gb, *partial;  ///< partial: scratch of partials(R) * D * r
  int64_t rows, width, rank;
  float scale;
  Type type;
};

/// One AdamWStep of `count` fp32 elements (transformer.h has the formula).
struct AdamWArrays {
  const float* g;
  float *p, *m, *v;
  int64_t count;
};

/// Each function returns null, or the text of what went wrong.
struct DeviceTable {
  /// The stream that work on tensors goes to at present (a cudaStream_t; null on the host).
  void* (*stream)();
  const char* (*ln_modulate)(const LnModulate&, void* stream);
  const char* (*ln_modulate_backward)(const LnModulateBackward&, void* stream);
  const char* (*gate)(const Gate&, void* stream);
  const char* (*gate_backward)(const GateBackward&, void* stream);
  const char* (*gelu)(const Gelu&, void* stream);
  const char* (*gelu_backward)(const GeluBackward&, void* stream);
  const char* (*qk_norm)(const QkNorm&, void* stream);
  const char* (*qk_norm_backward)(const QkNormBackward&, void* stream);
  const char* (*lora_up)(const LoraUp&, void* stream);
  const char* (*lora_up_backward)(const LoraUpBackward&, void* stream);
  const char* (*adamw)(const AdamWStep&, const AdamWArrays&, void* stream);
};

/// The same kernels as loops on the host: what the tests measure.
const DeviceTable& host_table();

}  // namespace vggflow::kernels
