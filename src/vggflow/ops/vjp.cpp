#include "vggflow/ops/vjp.h"

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/csrc/autograd/autograd.h>

#include "vggflow/core/error.h"

namespace vggflow {
namespace {

void require_graph(const Tensor& value) {
  VGGFLOW_CHECK(value.requires_grad(),
                "[vjp] expected a function that is differentiable in its input, got a value of "
                "shape [{}] without a graph; does it detach its input or switch gradients off?",
                fmt::join(value.sizes(), ", "));
}

}  // namespace

ValueAndGradient value_and_vjp(const TensorFunction& f, const Tensor& x, const Tensor& cotangent) {
  const at::AutoGradMode on(true);
  const Tensor leaf = x.detach().requires_grad_(true);
  const Tensor value = f(leaf);
  require_graph(value);
  VGGFLOW_CHECK(value.sizes() == cotangent.sizes(),
                "[vjp] expected a cotangent of the value's shape [{}], got [{}]",
                fmt::join(value.sizes(), ", "), fmt::join(cotangent.sizes(), ", "));
  return {value.detach(), torch::autograd::grad({value}, {leaf}, {cotangent.detach()})[0]};
}

Tensor vjp(const TensorFunction& f, const Tensor& x, const Tensor& cotangent) {
  return value_and_vjp(f, x, cotangent).gradient;
}

ValueAndGradient value_and_gradient(const TensorFunction& f, const Tensor& x) {
  const at::AutoGradMode on(true);
  const Tensor leaf = x.detach().requires_grad_(true);
  const Tensor value = f(leaf);
  require_graph(value);
  return {value.detach(), torch::autograd::grad({value.sum()}, {leaf})[0]};
}

Tensor gradient_of(const TensorFunction& f, const Tensor& x) {
  return value_and_gradient(f, x).gradient;
}

}  // namespace vggflow
