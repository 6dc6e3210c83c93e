#pragma once
// Forward-mode differentiation by explicit pairs: every network is written once over T = Tensor or
// Dual, and the functions of functional.h are overloaded for both. ATen's own forward AD is not
// used: it has no rule for fused attention, and its reverse-over-forward of layer_norm is wrong
// (pytorch issue 196700). The tangent formulas here are ordinary differentiable ops, so reverse
// mode may run through them.

#include <ATen/core/Tensor.h>

#include <concepts>
#include <string>

namespace vggflow {

using at::Tensor;

/// x + eps * dx: a value and its derivative along one direction; both have the same shape and
/// dtype.
struct Dual {
  Tensor value;
  Tensor tangent;
};

template <class T>
concept TensorLike = std::same_as<T, Tensor> || std::same_as<T, Dual>;

inline const Tensor& primal(const Tensor& x) { return x; }
inline const Tensor& primal(const Dual& x) { return x.value; }

/// A constant seen as T: itself, or with tangent zero.
template <TensorLike T>
T lift(const Tensor& x);

/// "(2, 4, 64, 64)", for error messages.
std::string shape_string(const Tensor& x);

}  // namespace vggflow
