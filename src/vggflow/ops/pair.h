#pragma once
// A value b of a network and how far another one, t = b + d, is away from it: f(b, d) = (f(b),
// f(b + d) - f(b)). The network with adapters and the one without are two such values. Where they
// compute in bf16, each is rounded to 1 in 256, and their difference, taken at the end, is rounding
// for the most part. Carried beside b it keeps its own 8 bits:
//
//   linear maps          W d, and what adapters add to the layer (nn/pair_layers.h)
//   products             (da) b + a (db) + (da) (db)
//   norms, GELU, SiLU    in fp32, in forms that do not cancel (pair.cpp)
//   attention            attention of b + d and of b, both in fp32
//
// No first order in d is left out: d may be as large as b. Pairs are values: nothing here has a
// gradient. A difference that is zero everywhere, as before the first adapted layer, is undefined
// and costs nothing. Shapes are those of functional.h and block_functions.h.

#include <concepts>
#include <vector>

#include "vggflow/ops/block_functions.h"

namespace vggflow {

struct Pair {
  Tensor base;
  Tensor difference;  ///< of base's shape and dtype, or undefined: zero
};

/// What a network may be written over.
template <class T>
concept NetworkValue = TensorLike<T> || std::same_as<T, Pair>;

inline const Tensor& primal(const Pair& x) { return x.base; }

/// A constant seen as T.
template <NetworkValue T>
T constant(const Tensor& x) {
  if constexpr (std::same_as<T, Pair>) {
    return {x, {}};
  } else {
    return lift<T>(x);
  }
}

/// a + b where one, or both, may be undefined: zero.
Tensor sum_of(const Tensor& a, const Tensor& b);

Pair operator+(const Pair& a, const Pair& b);
Pair operator+(const Pair& a, const Tensor& b);

namespace ops {

Pair silu(const Pair& x);
Pair gelu_tanh(const Pair& x);
Pair reshape(const Pair& x, at::IntArrayRef shape);
Pair permute(const Pair& x, at::IntArrayRef dims);
Pair narrow(const Pair& x, int64_t dim, int64_t start, int64_t length);
Pair cat(const std::vector<Pair>& parts, int64_t dim);
Pair to_dtype(const Pair& x, at::ScalarType dtype);
Pair linear(const Pair& x, const Tensor& weight, const Tensor& bias);
Pair conv2d(const Pair& x, const Tensor& weight, const Tensor& bias, int64_t stride,
            int64_t padding, int64_t groups = 1);
Pair layer_norm_modulate(const Pair& x, const Pair& shift, const Pair& scale, double eps,
                         at::ScalarType out);
Pair gated_add(const Pair& x, const Pair& gate, const Pair& y);
/// block_functions.h's Gated of pairs.
struct GatedPair {
  Pair stream, modulated;
};
GatedPair gated_add_modulate(const Pair& x, const Pair& gate, const Pair& y, const Pair& shift,
                             const Pair& scale, double eps);
Pair normalize_qk(const Pair& qkv, const QkWeights& weights, int64_t heads, double eps);
Pair normalize_qk(const Pair& first, const QkWeights& first_weights, const Pair& second,
                  const QkWeights& second_weights, int64_t heads, double eps);
Pair attention(const Pair& qkv, int64_t heads);
/// Of a time without difference.
Pair timestep_embedding(const Pair& timestep, int64_t dim);

}  // namespace ops
}  // namespace vggflow
