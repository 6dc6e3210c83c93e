// Plain functions on Tensor, and all functions on Dual. A Dual function computes its value with the
// formula of the Tensor function in plain ops, and its tangent by the chain rule written beside it.
#include "vggflow/ops/functional.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>
#include <numbers>
#include <optional>
#include <string>

#include "vggflow/core/error.h"
#include "vggflow/ops/attention.h"
#include "vggflow/ops/attention_tangent.h"
#include "vggflow/ops/block_functions.h"
#include "vggflow/ops/device_functions.h"

namespace vggflow {

std::string shape_string(const Tensor& x) {
  return fmt::format("({})", fmt::join(x.sizes().begin(), x.sizes().end(), ", "));
}

template <>
Tensor lift<Tensor>(const Tensor& x) {
  return x;
}
template <>
Dual lift<Dual>(const Tensor& x) {
  return {x, at::zeros_like(x)};
}

// ---- elementwise
// -----------------------------------------------------------------------------------------------------

Dual operator+(const Dual& a, const Dual& b) { return {a.value + b.value, a.tangent + b.tangent}; }
Dual operator-(const Dual& a, const Dual& b) { return {a.value - b.value, a.tangent - b.tangent}; }
Dual operator*(const Dual& a, const Dual& b) {
  return {a.value * b.value, a.tangent * b.value + a.value * b.tangent};
}
Dual operator/(const Dual& a, const Dual& b) {
  const Tensor q = a.value / b.value;
  return {q, (a.tangent - q * b.tangent) / b.value};
}
Dual operator+(const Dual& a, const Tensor& b) {
  const Tensor value = a.value + b;
  return {value, a.tangent.expand_as(value)};
}
Dual operator*(const Dual& a, const Tensor& b) { return {a.value * b, a.tangent * b}; }
Dual operator+(const Dual& a, double b) { return {a.value + b, a.tangent}; }
Dual operator-(const Dual& a, double b) { return {a.value - b, a.tangent}; }
Dual operator*(const Dual& a, double b) { return {a.value * b, a.tangent * b}; }

namespace ops {

Tensor silu(const Tensor& x) { return at::silu(x); }
Dual silu(const Dual& x) {
  const Tensor s = at::sigmoid(x.value);
  return {x.value * s, x.tangent * (s * (1 + x.value * (1 - s)))};
}

Tensor relu(const Tensor& x) { return at::relu(x); }
Dual relu(const Dual& x) {
  return {at::relu(x.value), x.tangent * (x.value > 0).to(x.value.scalar_type())};
}

Tensor tanh(const Tensor& x) { return at::tanh(x); }
Dual tanh(const Dual& x) {
  const Tensor y = at::tanh(x.value);
  return {y, x.tangent * (1 - y * y)};
}

Tensor square(const Tensor& x) { return x * x; }
Dual square(const Dual& x) { return {x.value * x.value, 2 * x.value * x.tangent}; }

Tensor safe_sqrt(const Tensor& x, double eps) { return at::sqrt(x + eps); }
Dual safe_sqrt(const Dual& x, double eps) {
  const Tensor y = at::sqrt(x.value + eps);
  return {y, x.tangent / (2 * y)};
}

// y = x s(z), z = a (x + b x^3) with a = 2 sqrt(2/pi), b = 0.044715; dy = (s + x s (1 - s) z') dx.
Dual gelu_tanh(const Dual& x) {
  if (const auto* table = on_device::dual_kernels(x)) return on_device::gelu_tanh(*table, x);
  constexpr double a = 2 * 0.79788456080286535588, b = 0.044715;
  const Tensor sq = x.value * x.value;
  const Tensor s = at::sigmoid(a * x.value * (1 + b * sq));
  return {x.value * s, x.tangent * (s * (1 + x.value * (1 - s) * (a * (1 + 3 * b * sq))))};
}

// dy = (Phi + x phi) dx, phi the normal density.
Tensor gelu(const Tensor& x) { return at::gelu(x); }
Dual gelu(const Dual& x) {
  const Tensor phi =
      at::exp(x.value * x.value * -0.5) * (0.5 * std::numbers::inv_sqrtpi * std::numbers::sqrt2);
  const Tensor cdf = (at::erf(x.value * (0.5 * std::numbers::sqrt2)) + 1) * 0.5;
  return {x.value * cdf, x.tangent * (cdf + x.value * phi)};
}

// y = x s(a x), a = 1.702; dy = (s + a x s (1 - s)) dx.
constexpr double kQuickGelu = 1.702;
Tensor quick_gelu(const Tensor& x) { return x * at::sigmoid(x * kQuickGelu); }
Dual quick_gelu(const Dual& x) {
  const Tensor s = at::sigmoid(x.value * kQuickGelu);
  return {x.value * s, x.tangent * (s * (1 + x.value * (1 - s) * kQuickGelu))};
}

// ---- shape
// -----------------------------------------------------------------------------------------------------------

Tensor reshape(const Tensor& x, at::IntArrayRef shape) { return x.reshape(shape); }
Dual reshape(const Dual& x, at::IntArrayRef shape) {
  return {x.value.reshape(shape), x.tangent.reshape(shape)};
}
Tensor permute(const Tensor& x, at::IntArrayRef dims) { return x.permute(dims); }
Dual permute(const Dual& x, at::IntArrayRef dims) {
  return {x.value.permute(dims), x.tangent.permute(dims)};
}
Tensor narrow(const Tensor& x, int64_t dim, int64_t start, int64_t length) {
  return x.narrow(dim, start, length);
}
Dual narrow(const Dual& x, int64_t dim, int64_t start, int64_t length) {
  return {x.value.narrow(dim, start, length), x.tangent.narrow(dim, start, length)};
}
Tensor cat(const std::vector<Tensor>& parts, int64_t dim) { return at::cat(parts, dim); }
Dual cat(const std::vector<Dual>& parts, int64_t dim) {
  std::vector<Tensor> values, tangents;
  for (const Dual& p : parts) {
    values.push_back(p.value);
    tangents.push_back(p.tangent);
  }
  return {at::cat(values, dim), at::cat(tangents, dim)};
}
Tensor unsqueeze(const Tensor& x, int64_t dim) { return x.unsqueeze(dim); }
Dual unsqueeze(const Dual& x, int64_t dim) {
  return {x.value.unsqueeze(dim), x.tangent.unsqueeze(dim)};
}
Tensor to_dtype(const Tensor& x, at::ScalarType dtype) { return x.to(dtype); }
Dual to_dtype(const Dual& x, at::ScalarType dtype) {
  return {x.value.to(dtype), x.tangent.to(dtype)};
}
Tensor sum(const Tensor& x, at::IntArrayRef dims, bool keepdim) { return x.sum(dims, keepdim); }
Dual sum(const Dual& x, at::IntArrayRef dims, bool keepdim) {
  return {x.value.sum(dims, keepdim), x.tangent.sum(dims, keepdim)};
}
Tensor mean(const Tensor& x, at::IntArrayRef dims, bool keepdim) { return x.mean(dims, keepdim); }
Dual mean(const Dual& x, at::IntArrayRef dims, bool keepdim) {
  return {x.value.mean(dims, keepdim), x.tangent.mean(dims, keepdim)};
}

// ---- linear maps: the tangent goes through the same map, without the bias
// ---------------------------------------------

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  return at::linear(x, weight, bias);
}
Dual linear(const Dual& x, const Tensor& weight, const Tensor& bias) {
  return {at::linear(x.value, weight, bias), at::linear(x.tangent, weight)};
}
Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, int64_t stride,
              int64_t padding, int64_t groups) {
  return at::conv2d(x, weight, bias, {stride, stride}, {padding, padding}, {1, 1}, groups);
}
Dual conv2d(const Dual& x, const Tensor& weight, const Tensor& bias, int64_t stride,
            int64_t padding, int64_t groups) {
  return {ops::conv2d(x.value, weight, bias, stride, padding, groups),
          ops::conv2d(x.tangent, weight, Tensor(), stride, padding, groups)};
}
Tensor avg_pool2d(const Tensor& x, int64_t k) { return at::avg_pool2d(x, {k, k}); }
Dual avg_pool2d(const Dual& x, int64_t k) {
  return {ops::avg_pool2d(x.value, k), ops::avg_pool2d(x.tangent, k)};
}
Tensor upsample2x(const Tensor& x) {
  return x.unsqueeze(3)
      .unsqueeze(5)
      .expand({x.size(0), x.size(1), x.size(2), 2, x.size(3), 2})
      .reshape({x.size(0), x.size(1), 2 * x.size(2), 2 * x.size(3)});
}
Dual upsample2x(const Dual& x) { return {ops::upsample2x(x.value), ops::upsample2x(x.tangent)}; }

// ---- normalisations
// --------------------------------------------------------------------------------------------------

namespace {

at::ScalarType statistics_dtype(const Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

Tensor affine(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  Tensor y = weight.defined() ? x * weight : x;
  return bias.defined() ? y + bias : y;
}

// xh = (x - mean) rstd over `dims`; dxh = rstd (dx - mean(dx) - xh mean(xh dx)). The result stays
// in the statistics' dtype.
Dual standardize(const Dual& narrow, at::IntArrayRef dims, double eps) {
  const Dual x = to_dtype(narrow, statistics_dtype(narrow.value));
  const Tensor centred = x.value - x.value.mean(dims, true);
  const Tensor rstd = at::rsqrt((centred * centred).mean(dims, true) + eps);
  const Tensor xh = centred * rstd;
  return {xh,
          rstd * (x.tangent - x.tangent.mean(dims, true) - xh * (xh * x.tangent).mean(dims, true))};
}

}  // namespace

Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps) {
  return at::layer_norm(x, {x.size(-1)}, weight, bias, eps);
}
Dual layer_norm(const Dual& x, const Tensor& weight, const Tensor& bias, double eps) {
  const Dual xh = standardize(x, {-1}, eps);
  return to_dtype({affine(xh.value, weight, bias), affine(xh.tangent, weight, {})},
                  x.value.scalar_type());
}

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  const Tensor y = x.to(statistics_dtype(x));
  return (y * at::rsqrt((y * y).mean(-1, true) + eps)).to(x.scalar_type()) *
         weight.to(x.scalar_type());
}
// xh = x r, r = 1 / sqrt(mean(x^2) + eps); dxh = r (dx - xh mean(xh dx)).
Dual rms_norm(const Dual& x, const Tensor& weight, double eps) {
  const Dual y = to_dtype(x, statistics_dtype(x.value));
  const Tensor r = at::rsqrt((y.value * y.value).mean(-1, true) + eps);
  const Tensor xh = y.value * r;
  const Dual out{xh, r * (y.tangent - xh * (xh * y.tangent).mean(-1, true))};
  return to_dtype(out, x.value.scalar_type()) * weight.to(x.value.scalar_type());
}

Tensor group_norm(const Tensor& x, int64_t groups, const Tensor& weight, const Tensor& bias,
                  double eps) {
  return at::group_norm(x, groups, weight, bias, eps);
}
Dual group_norm(const Dual& x, int64_t groups, const Tensor& weight, const Tensor& bias,
                double eps) {
  const auto shape = x.value.sizes().vec();
  const Dual xh =
      ops::reshape(standardize(ops::reshape(x, {shape[0], groups, -1}), {-1}, eps), shape);
  const Tensor w = weight.view({1, -1, 1, 1});
  return to_dtype({xh.value * w + bias.view({1, -1, 1, 1}), xh.tangent * w}, x.value.scalar_type());
}

Tensor l2_normalize(const Tensor& x) {
  const Tensor y = x.to(statistics_dtype(x));
  return (y * at::rsqrt((y * y).sum(-1, true) + 1e-12)).to(x.scalar_type());
}
Dual l2_normalize(const Dual& narrow) {
  const Dual x = to_dtype(narrow, statistics_dtype(narrow.value));
  const Tensor r = at::rsqrt((x.value * x.value).sum(-1, true) + 1e-12);
  const Tensor y = x.value * r;
  return to_dtype({y, r * (x.tangent - y * (y * x.tangent).sum(-1, true))},
                  narrow.value.scalar_type());
}

// ---- transformer pieces on Dual (on Tensor: fused.cpp)
// ----------------------------------------------------------------

Dual layer_norm_modulate(const Dual& x, const Dual& shift, const Dual& scale, double eps,
                         at::ScalarType out) {
  const bool typed = out == at::kFloat || out == at::kBFloat16;
  if (const auto* table = typed ? on_device::dual_kernels(x, shift, scale) : nullptr)
    return on_device::layer_norm_modulate(*table, x, shift, scale, eps, out);
  const Dual xh = standardize(x, {-1}, eps);
  const auto wide = [&](const Dual& modulation) {
    return unsqueeze(to_dtype(modulation, xh.value.scalar_type()), 1);
  };
  return to_dtype(xh * (wide(scale) + 1.0) + wide(shift), out);
}

Dual gated_add(const Dual& x, const Dual& gate, const Dual& y) {
  if (const auto* table = on_device::dual_kernels(y, x, gate); table && device_kernels(x.value))
    return on_device::gated_add(*table, x, gate, y);
  return x + unsqueeze(gate, 1) * to_dtype(y, x.value.scalar_type());
}

Gated<Dual> gated_add_modulate(const Dual& x, const Dual& gate, const Dual& y, const Dual& shift,
                               const Dual& scale, double eps) {
  if (const auto* table = on_device::dual_kernels(y, x, gate, shift, scale);
      table && device_kernels(x.value))
    return on_device::gated_add_modulate(*table, x, gate, y, shift, scale, eps);
  const Dual out = ops::gated_add(x, gate, y);
  return {out, ops::layer_norm_modulate(out, shift, scale, eps, y.value.scalar_type())};
}

namespace {

// RMSNorm over the channels of each head of a packed (B, N, 3D) tensor's first two thirds.
template <TensorLike T>
T normalize_plain(const T& qkv, const QkWeights& weights, int64_t heads, double eps) {
  const int64_t b = primal(qkv).size(0), n = primal(qkv).size(1), d = primal(qkv).size(2) / 3;
  const auto dtype = primal(qkv).scalar_type();
  const auto per_head = [&](int64_t part, const Tensor& weight) {
    const T x = ops::reshape(ops::narrow(qkv, -1, part * d, d), {b, n, heads, d / heads});
    return ops::reshape(ops::rms_norm(x, weight.to(dtype), eps), {b, n, d});
  };
  return ops::cat(std::vector<T>{per_head(0, weights.q), per_head(1, weights.k),
                                 ops::narrow(qkv, -1, 2 * d, d)},
                  -1);
}

// The kernel takes the weights as constants: where they are trained, the composition serves.
template <class... X>
const on_device::Table* qk_kernels(const Tensor& first, const X&... constants) {
  return on_device::followed(constants...) ? nullptr : device_kernels(first);
}
bool same_dtype(const Tensor& a, const Tensor& b) { return a.scalar_type() == b.scalar_type(); }

template <TensorLike T>
void check_packed(const T& qkv, const QkWeights& w, int64_t heads) {
  const Tensor& x = primal(qkv);
  VGGFLOW_CHECK(x.dim() == 3 && x.size(2) % (3 * heads) == 0 &&
                    w.q.numel() == x.size(2) / (3 * heads) && w.k.numel() == w.q.numel(),
                "[normalize_qk] expected qkv (B, N, 3D) with D a multiple of {} heads and weights "
                "of a head's channels, got {}, {}, {}",
                heads, shape_string(x), shape_string(w.q), shape_string(w.k));
}

}  // namespace

template <TensorLike T>
T normalize_qk(const T& qkv, const QkWeights& weights, int64_t heads, double eps) {
  check_packed(qkv, weights, heads);
  const on_device::Table* table = qk_kernels(primal(qkv), weights.q, weights.k);
  if (std::same_as<T, Dual> && on_device::followed(qkv)) table = nullptr;
  return table ? on_device::normalize_qk(*table, qkv, weights, T{}, {}, heads, eps)
               : normalize_plain(qkv, weights, heads, eps);
}
template Tensor normalize_qk(const Tensor&, const QkWeights&, int64_t, double);
template Dual normalize_qk(const Dual&, const QkWeights&, int64_t, double);

template <TensorLike T>
T normalize_qk(const T& first, const QkWeights& w1, const T& second, const QkWeights& w2,
               int64_t heads, double eps) {
  check_packed(first, w1, heads);
  check_packed(second, w2, heads);
  const on_device::Table* table = qk_kernels(primal(first), w1.q, w1.k, w2.q, w2.k);
  if (std::same_as<T, Dual> && on_device::followed(first, second)) table = nullptr;
  if (table && same_dtype(primal(first), primal(second)))
    return on_device::normalize_qk(*table, first, w1, second, w2, heads, eps);
  return ops::cat(std::vector<T>{normalize_plain(first, w1, heads, eps),
                                 normalize_plain(second, w2, heads, eps)},
                  1);
}
template Tensor normalize_qk(const Tensor&, const QkWeights&, const Tensor&, const QkWeights&,
                             int64_t, double);
template Dual normalize_qk(const Dual&, const QkWeights&, const Dual&, const QkWeights&, int64_t,
                           double);

namespace {

Tensor lora_up_plain(const Tensor& y, const Tensor& u, const Tensor& b, double scale) {
  return y + at::linear(u, b.to(u.scalar_type())) * scale;
}

}  // namespace

Tensor lora_up(const Tensor& y, const Tensor& u, const Tensor& b, double scale) {
  const auto* table = device_kernels(y);
  return table && same_dtype(y, u) ? on_device::lora_up(*table, y, u, b, scale)
                                   : lora_up_plain(y, u, b, scale);
}
Dual lora_up(const Dual& y, const Dual& u, const Tensor& b, double scale) {
  const auto* table = on_device::dual_kernels(y, u, b);
  if (table && same_dtype(y.value, u.value)) return on_device::lora_up(*table, y, u, b, scale);
  return {lora_up_plain(y.value, u.value, b, scale), lora_up_plain(y.tangent, u.tangent, b, scale)};
}

namespace {

// (B, N, D) -> (B, H, N, D/H), and back.
Tensor split_heads(const Tensor& x, int64_t heads) {
  return x.reshape({x.size(0), x.size(1), heads, -1}).transpose(1, 2);
}
Tensor join_heads(const Tensor& x) { return x.transpose(1, 2).reshape({x.size(0), x.size(2), -1}); }

// The scale goes into q, the smaller factor.
Dual attend_scaled(const Dual& q, const Dual& k, const Dual& v, const Tensor& bias) {
  return attend(q * (1 / std::sqrt(static_cast<double>(k.value.size(-1)))), k, v, bias);
}

}  // namespace

Dual attention(const Dual& qkv, int64_t heads) {
  const int64_t b = qkv.value.size(0), n = qkv.value.size(1), d = qkv.value.size(2) / 3;
  const auto split = [&](const Tensor& t) {
    return t.reshape({b, n, 3, heads, d / heads}).permute({2, 0, 3, 1, 4}).unbind(0);
  };
  const auto x = split(qkv.value), dx = split(qkv.tangent);
  return attend_scaled({x[0], dx[0]}, {x[1], dx[1]}, {x[2], dx[2]}, {});
}

namespace {

void check_cross_attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads) {
  VGGFLOW_CHECK(q.dim() == 3 && k.dim() == 3 && v.sizes() == k.sizes() && k.size(0) == q.size(0) &&
                    k.size(2) == q.size(2) && q.size(2) % heads == 0,
                "[cross_attention] expected q (B, N, D) and k, v (B, M, D) with D a multiple of {} "
                "heads, got {}, {}, {}",
                heads, shape_string(q), shape_string(k), shape_string(v));
}

}  // namespace

Tensor cross_attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads,
                       const Tensor& bias) {
  check_cross_attention(q, k, v, heads);
  const auto mask = bias.defined() ? std::optional<Tensor>(bias) : std::nullopt;
  return join_heads(
      fused_attention(split_heads(q, heads), split_heads(k, heads), split_heads(v, heads), mask));
}
Dual cross_attention(const Dual& q, const Dual& k, const Dual& v, int64_t heads,
                     const Tensor& bias) {
  check_cross_attention(q.value, k.value, v.value, heads);
  const auto split = [&](const Dual& x) {
    return Dual{split_heads(x.value, heads), split_heads(x.tangent, heads)};
  };
  return attend_scaled(split(q), split(k), split(v), bias);
}

namespace {

Tensor sinusoid_frequencies(const Tensor& like, int64_t dim) {
  const int64_t count = dim / 2;
  const Tensor i = at::arange(count, like.options());
  return at::exp(i * (-std::log(10000.0) / static_cast<double>(count)));
}

}  // namespace

Tensor timestep_embedding(const Tensor& timestep, int64_t dim) {
  const Tensor angle = timestep.unsqueeze(1) * sinusoid_frequencies(timestep, dim);
  return at::cat({at::cos(angle), at::sin(angle)}, 1);
}
Dual timestep_embedding(const Dual& timestep, int64_t dim) {
  const Tensor f = sinusoid_frequencies(timestep.value, dim);
  const Tensor angle = timestep.value.unsqueeze(1) * f, speed = timestep.tangent.unsqueeze(1) * f;
  const Tensor c = at::cos(angle), s = at::sin(angle);
  return {at::cat({c, s}, 1), at::cat({-s * speed, c * speed}, 1)};
}

}  // namespace ops
}  // namespace vggflow
