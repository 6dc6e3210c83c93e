#include "vggflow/ops/cast_linear.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "vggflow/device/device.h"

namespace vggflow::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::Variable;
using torch::autograd::variable_list;

constexpr int64_t kParts = 3;  // of 8 bits each: fp32 has 24

// x (B, D) times matrix (D, M): the parts of x are rows of one product.
Tensor product(const Tensor& x, const Tensor& matrix) {
  const int64_t rows = x.size(0);
  const Tensor parts = at::empty({kParts, rows, x.size(1)}, x.options().dtype(at::kBFloat16));
  Tensor rest = x;
  for (int64_t i = 0; i < kParts; ++i) {
    parts.select(0, i).copy_(rest);
    if (i + 1 < kParts) rest = rest - parts.select(0, i);
  }
  return at::mm(parts.view({kParts * rows, -1}), matrix, at::kFloat)
      .view({kParts, rows, -1})
      .sum(0);
}

struct Product : Function<Product> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& matrix) {
    ctx->save_for_backward({matrix});
    return product(x, matrix);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    return {Product::apply(gradients[0], ctx->get_saved_variables()[0].t()), Variable()};
  }
};

Tensor with_bias(const Tensor& y, const Tensor& bias) { return bias.defined() ? y + bias : y; }

template <class T>
T by_cast(const T& x, at::ScalarType dtype, const Tensor& weight, const Tensor& bias) {
  return linear(x, weight.to(dtype), cast(bias, dtype));
}

}  // namespace

Tensor cast(const Tensor& x, at::ScalarType dtype) { return x.defined() ? x.to(dtype) : x; }

bool multiplies_as_it_lies(const Tensor& x, const Tensor& weight) {
  return !x.is_cpu() && fused_kernels() && x.dim() == 2 && x.scalar_type() == at::kFloat &&
         weight.scalar_type() == at::kBFloat16 && !weight.requires_grad();
}

Tensor cast_linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  if (!multiplies_as_it_lies(x, weight)) return by_cast(x, x.scalar_type(), weight, bias);
  return with_bias(Product::apply(x, weight.t()), bias);
}

// Values and tangents are rows of one product too.
Dual cast_linear(const Dual& x, const Tensor& weight, const Tensor& bias) {
  if (!multiplies_as_it_lies(x.value, weight))
    return by_cast(x, x.value.scalar_type(), weight, bias);
  const Tensor both = Product::apply(at::cat({x.value, x.tangent}), weight.t());
  const int64_t rows = x.value.size(0);
  return {with_bias(both.narrow(0, 0, rows), bias), both.narrow(0, rows, rows)};
}

Pair cast_linear(const Pair& x, const Tensor& weight, const Tensor& bias) {
  if (!multiplies_as_it_lies(x.base, weight)) return by_cast(x, x.base.scalar_type(), weight, bias);
  if (!x.difference.defined()) return {cast_linear(x.base, weight, bias), {}};
  const Dual both = cast_linear(Dual{x.base, x.difference}, weight, bias);
  return {both.value, both.tangent};
}

}  // namespace vggflow::ops
