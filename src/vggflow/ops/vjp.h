#pragma once
// Reverse mode at one point, to the input alone. Methods pull vectors back through frozen networks
// and differentiate rewards; none of that may touch the gradients of parameters or the graph that
// made x, and all of it must work inside a NoGradGuard.

#include <ATen/core/Tensor.h>

#include <functional>

#include "vggflow/ops/dual.h"

namespace vggflow {

/// A function of one tensor, differentiable in it. It is called once, with gradients enabled.
using TensorFunction = std::function<Tensor(const Tensor&)>;

/// f(x), without graph, and what was pulled back to x, of x's shape and dtype.
struct ValueAndGradient {
  Tensor value, gradient;
};

/// The vector-Jacobian product [df/dx]^T c at x for a cotangent c of f(x)'s shape. Neither x nor c
/// is differentiated further, and no parameter's .grad changes.
/// Throws where c has another shape, or where f(x) has no graph.
Tensor vjp(const TensorFunction& f, const Tensor& x, const Tensor& cotangent);

/// The same, with f(x) from the same forward pass.
ValueAndGradient value_and_vjp(const TensorFunction& f, const Tensor& x, const Tensor& cotangent);

/// d/dx of the sum of all entries of f(x). Where entry i depends on row i of x alone, as with
/// rewards of a batch, row i holds the gradient of entry i.
Tensor gradient_of(const TensorFunction& f, const Tensor& x);

/// The same, with f(x), before the sum, from the same forward pass.
ValueAndGradient value_and_gradient(const TensorFunction& f, const Tensor& x);

}  // namespace vggflow
