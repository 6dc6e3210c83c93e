#pragma once
// Matrix products of bf16 by the processor's own dot products (AVX512-BF16: pairs of bf16, summed
// in fp32), with what follows a product done while its sums are still in registers, and a whole
// block of joint attention made of them, so that a few samples' rows stay in the second-level cache
// from its first line to its last. narrow_test.cpp holds each against loops written to be read, and
// ops/joint_block_test.cpp the block against its composition. The caller decides on threads.

#include <cstdint>

#include "vggflow/kernels/transformer.h"

namespace vggflow::kernels {

/// Rows that lie in pieces: row r is the row r % rows of piece r / rows, and begins at
/// data + (r / rows) * piece + (r % rows) * row.
template <class T>
struct Pieces {
  T* data;
  int64_t rows, piece, row;
};

/// Weights W (n, k) of y = x W^T + b, laid out for dot products; k is even.
struct PackedLinear {
  const bf16* weight;  ///< packed_size(n, k) numbers
  const float* bias;   ///< n numbers rounded up to 32, or null
  int64_t n, k;
};

/// The rows x (rows, k) of a product, in order: row r begins at data + r * stride.
struct NarrowRows {
  const bf16* data;
  int64_t stride, rows;
};

/// One stream (B, n, D) of a joint block.
struct Stream {
  PackedLinear qkv, out, in, back;  ///< D -> 3D; D -> D; D -> 4D; 4D -> D
  const float* x;                   ///< (B, n, D)
  float* y;                         ///< the same after the block; may be x
  int64_t n;
  Rows shift, scale, gate, mlp_shift, mlp_scale, mlp_gate;
  bool last;  ///< gives attention its keys and values and ends there: no y, no gates, qkv alone
};

/// A low-rank adapter of a layer W (n, k): adds (x A^T) B^T. down.n = 0: none.
struct PackedAdapter {
  PackedLinear down, up;  ///< A (r, k) and B (n, r), r even, B times its scale; without bias
};
/// One stream with and without its adapters, as a value and a difference (ops/pair.h).
struct PairStream {
  Stream base;
  const float* dx;  ///< (B, n, D)
  float* dy;        ///< the same after the block; may be dx
  PackedAdapter qkv, out, in, back;
};

/// What the backward pass of a block needs of its forward pass, of both streams.
struct BlockTape {
  bf16* qkv;   ///< (B, n + m, 3D), image first
  float* lse;  ///< (B, H, n + m)
};
/// And of one stream; of one that ends, `attended` alone.
struct StreamTape {
  PackedAdapter qkv, out;
  bf16* attended;  ///< (B, n, D)
  float* middle;   ///< (B, n, D), the stream between attention and MLP
  bf16* hidden;    ///< (B, n, 4D), before GELU
};
/// One stream of a backward pass. Weights are the forward's, transposed: their n is its k.
struct StreamBack {
  PackedLinear qkv, out, in, back;  ///< without bias
  PackedAdapter qkv_adapter, out_adapter;
  const float *x, *gy;  ///< (B, n, D), the stream before the block, and the gradient of its result
  float* gx;
  Rows scale, gate, mlp_scale, mlp_gate;
  int64_t n;
  StreamTape tape;
  bf16* gout;  ///< (B, n, D), the gradient of the output layer's result, for its adapter
  bool last;
};

struct NarrowKernels {
  /// Lays out W (n, k), row-major with rows of `stride`, into packed_size(n, k) numbers.
  void (*pack)(const bf16* w, int64_t n, int64_t k, int64_t stride, bf16* out);
  /// y = x W^T + b.
  void (*product)(NarrowRows x, const PackedLinear& w, Pieces<bf16> y);
  /// The same, in fp32.
  void (*product_wide)(NarrowRows x, const PackedLinear& w, Pieces<float> y);
  /// y = gelu_tanh(x W^T + b).
  void (*product_gelu)(NarrowRows x, const PackedLinear& w, Pieces<bf16> y);
  /// y = r + gate * (x W^T + b), a gate (n) for each of y's pieces; r may be y.
  void (*product_gated)(NarrowRows x, const PackedLinear& w, Rows gate, Pieces<const float> r,
                        Pieces<float> y);
  /// One block of joint attention of the samples [begin, end): layer_norm_modulate, joint products
  /// of queries, keys and values, attention over both streams, output product with gate, MLP.
  void (*joint_block)(const Stream& image, const Stream& text, int64_t d, int64_t heads, float eps,
                      int64_t begin, int64_t end);
  /// The same of the base, and what the adapters and dx change of it: linear maps of the
  /// difference, the rest as transformer.h's functions for pairs. A difference of attention is
  /// formed from differences of its scores, which are products of their own, so that nothing
  /// cancels.
  void (*joint_block_pair)(const PairStream& image, const PairStream& text, int64_t d,
                           int64_t heads, float eps, int64_t begin, int64_t end);
  /// joint_block with adapters of queries, keys, values and output, and a tape.
  void (*joint_block_taped)(const Stream& image, const StreamTape& image_tape, const Stream& text,
                            const StreamTape& text_tape, const BlockTape& tape, int64_t d,
                            int64_t heads, float eps, int64_t begin, int64_t end);
  /// Gradients of both streams, and of queries, keys and values: gqkv (B, n + m, 3D).
  void (*joint_block_back)(const StreamBack& image, const StreamBack& text, const BlockTape& tape,
                           bf16* gqkv, int64_t d, int64_t heads, float eps, int64_t begin,
                           int64_t end);
};

/// Numbers of a packed W (n, k).
inline int64_t packed_size(int64_t n, int64_t k) { return (n + 31) / 32 * 32 * ((k + 1) / 2 * 2); }

const NarrowKernels& avx512_bf16_kernels();
/// The kernels that this processor runs; null: it has no dot products of bf16.
const NarrowKernels* narrow_kernels();

}  // namespace vggflow::kernels
