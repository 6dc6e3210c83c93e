#include "vggflow/ops/convolutional.h"

#include <ATen/ATen.h>

#include <vector>

#include "vggflow/ops/functional.h"

namespace vggflow::ops {

Tensor relu6(const Tensor& x) { return at::hardtanh(x, 0, 6); }
Dual relu6(const Dual& x) {
  return {ops::relu6(x.value),
          x.tangent * ((x.value > 0) & (x.value < 6)).to(x.value.scalar_type())};
}

Tensor logsumexp(const Tensor& x, int64_t dim, bool keepdim) {
  return at::logsumexp(x, dim, keepdim);
}
Dual logsumexp(const Dual& x, int64_t dim, bool keepdim) {
  return {ops::logsumexp(x.value, dim, keepdim),
          (at::softmax(x.value, dim) * x.tangent).sum(dim, keepdim)};
}

Tensor softmax(const Tensor& x, int64_t dim) { return at::softmax(x, dim); }
Dual softmax(const Dual& x, int64_t dim) {
  const Tensor p = at::softmax(x.value, dim);
  return {p, p * (x.tangent - (p * x.tangent).sum(dim, /*keepdim=*/true))};
}

// ATen pads both ends of a side alike; what is left over goes before it.
Tensor padded_conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, int64_t stride,
                     const Padding& p, int64_t groups) {
  const bool even = p.top == p.bottom && p.left == p.right;
  const Tensor wide = even ? x : at::constant_pad_nd(x, {p.left, p.right, p.top, p.bottom});
  return at::conv2d(wide, weight, bias, {stride, stride}, {even ? p.top : 0, even ? p.left : 0},
                    {1, 1}, groups);
}
Dual padded_conv2d(const Dual& x, const Tensor& weight, const Tensor& bias, int64_t stride,
                   const Padding& p, int64_t groups) {
  return {ops::padded_conv2d(x.value, weight, bias, stride, p, groups),
          ops::padded_conv2d(x.tangent, weight, Tensor(), stride, p, groups)};
}

Tensor max_pool2d(const Tensor& x, int64_t k, int64_t stride, int64_t padding) {
  return at::max_pool2d(x, {k, k}, {stride, stride}, {padding, padding});
}
Dual max_pool2d(const Dual& x, int64_t k, int64_t stride, int64_t padding) {
  const auto [value, place] =
      at::max_pool2d_with_indices(x.value, {k, k}, {stride, stride}, {padding, padding});
  return {value, x.tangent.flatten(2).gather(2, place.flatten(2)).view(value.sizes())};
}

Tensor mean_around(const Tensor& x) {
  return at::avg_pool2d(x, {3, 3}, {1, 1}, {1, 1}, /*ceil_mode=*/false,
                        /*count_include_pad=*/false);
}
Dual mean_around(const Dual& x) { return {ops::mean_around(x.value), ops::mean_around(x.tangent)}; }

namespace {

// One side: x[lo] + (x[hi] - x[lo]) f with lo + f = i * scale.
Tensor resize_side(const Tensor& x, int64_t dim, int64_t size) {
  const int64_t in = x.size(dim);
  const Tensor place =
      at::arange(size, x.options()) *
      static_cast<double>(static_cast<float>(static_cast<double>(in) / static_cast<double>(size)));
  const Tensor low = place.to(at::kLong);
  std::vector<int64_t> shape(4, 1);
  shape[static_cast<size_t>(dim)] = size;
  const Tensor fraction = (place - low.to(x.scalar_type())).view(shape);
  const Tensor a = x.index_select(dim, low.clamp_max(in - 1)),
               b = x.index_select(dim, (low + 1).clamp_max(in - 1));
  return a + (b - a) * fraction;
}

}  // namespace

Tensor resize_tensorflow1(const Tensor& x, int64_t height, int64_t width) {
  return resize_side(resize_side(x, 3, width), 2, height);
}
Dual resize_tensorflow1(const Dual& x, int64_t height, int64_t width) {
  return {ops::resize_tensorflow1(x.value, height, width),
          ops::resize_tensorflow1(x.tangent, height, width)};
}

}  // namespace vggflow::ops
