#include "vggflow/ops/pair.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "vggflow/core/error.h"
#include "vggflow/ops/attention.h"
#include "vggflow/ops/cpu_kernels.h"

namespace vggflow {

Tensor sum_of(const Tensor& a, const Tensor& b) {
  if (!a.defined()) return b;
  return b.defined() ? a + b : a;
}

Pair operator+(const Pair& a, const Pair& b) {
  return {a.base + b.base, sum_of(a.difference, b.difference)};
}
Pair operator+(const Pair& a, const Tensor& b) { return {a.base + b, a.difference}; }

namespace ops {
namespace {

// f of both parts, where a zero stays one.
template <class F>
Pair each(const Pair& x, F f) {
  return {f(x.base), x.difference.defined() ? f(x.difference) : x.difference};
}

Tensor defined(const Pair& x) {
  return x.difference.defined() ? x.difference : at::zeros_like(x.base);
}

at::ScalarType wide_dtype(const Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}
Pair wide(const Pair& x) { return to_dtype(x, wide_dtype(x.base)); }

// x s(z) for the logistic function s and z = a (x + b x^3): SiLU for a = 1 and b = 0, GELU by tanh
// for the constants below. s(u) - s(v) = (s(u) (1 - s(v)) + s(v) (1 - s(u))) tanh((u - v) / 2), and
// the difference of z has the factor d.
Pair gated_by_logistic(const Pair& narrow, double a, double b) {
  const Pair x = wide(narrow);
  const Tensor &v = x.base, &d = x.difference, t = v + d;
  const Tensor z = a * (v + b * v * v * v), dz = a * d * (1 + b * (t * t + t * v + v * v));
  const Tensor s = at::sigmoid(z), st = at::sigmoid(z + dz);
  return to_dtype(Pair{v * s, d * st + v * (st * (1 - s) + s * (1 - st)) * at::tanh(0.5 * dz)},
                  narrow.base.scalar_type());
}

}  // namespace

Pair silu(const Pair& x) {
  if (!x.difference.defined()) return {at::silu(x.base), {}};
  return gated_by_logistic(x, 1, 0);
}

Pair gelu_tanh(const Pair& x) {
  if (!x.difference.defined()) return {ops::gelu_tanh(x.base), {}};
  if (!has_kernel(x.base)) return gated_by_logistic(x, 2 * 0.79788456080286535588, 0.044715);
  const Tensor b = x.base.contiguous(), d = x.difference.contiguous();
  const Pair y{at::empty_like(b), at::empty_like(b)};
  by_type(b, [&](const auto& k, auto t) {
    using T = decltype(t);
    at::parallel_for(0, b.numel(), kGrain, [&](int64_t begin, int64_t end) {
      k.gelu_pair(data<T>(b), data<T>(d), data<T>(y.base), data<T>(y.difference), begin, end);
    });
  });
  return y;
}

Pair reshape(const Pair& x, at::IntArrayRef shape) {
  return each(x, [&](const Tensor& y) { return y.reshape(shape); });
}
Pair permute(const Pair& x, at::IntArrayRef dims) {
  return each(x, [&](const Tensor& y) { return y.permute(dims); });
}
Pair narrow(const Pair& x, int64_t dim, int64_t start, int64_t length) {
  return each(x, [&](const Tensor& y) { return y.narrow(dim, start, length); });
}
Pair to_dtype(const Pair& x, at::ScalarType dtype) {
  return each(x, [&](const Tensor& y) { return y.to(dtype); });
}
Pair cat(const std::vector<Pair>& parts, int64_t dim) {
  std::vector<Tensor> bases, differences;
  bool differs = false;
  for (const Pair& p : parts) differs = differs || p.difference.defined();
  for (const Pair& p : parts) {
    bases.push_back(p.base);
    if (differs) differences.push_back(defined(p));
  }
  return {at::cat(bases, dim), differs ? at::cat(differences, dim) : Tensor()};
}

Pair linear(const Pair& x, const Tensor& weight, const Tensor& bias) {
  return {at::linear(x.base, weight, bias),
          x.difference.defined() ? at::linear(x.difference, weight) : Tensor()};
}
Pair conv2d(const Pair& x, const Tensor& weight, const Tensor& bias, int64_t stride,
            int64_t padding, int64_t groups) {
  return {ops::conv2d(x.base, weight, bias, stride, padding, groups),
          x.difference.defined()
              ? ops::conv2d(x.difference, weight, Tensor(), stride, padding, groups)
              : Tensor()};
}

namespace {

// The difference of 1 / sqrt(m) where m grows by `more`: -more r^2 rt^2 / (r + rt).
Tensor change_of_rsqrt(const Tensor& r, const Tensor& rt, const Tensor& more) {
  return -more * (r * rt).square() / (r + rt);
}

// xh = (x - mean) r. With x = mu + c, dx = dmu + e: mean((c + e)^2) grows by mean(e (2 c + e)), and
// dxh = e rt + c (rt - r).
Pair standardize(const Pair& x, double eps) {
  const Tensor c = x.base - x.base.mean(-1, true), e = x.difference - x.difference.mean(-1, true);
  const Tensor m = c.square().mean(-1, true) + eps, more = (e * (2 * c + e)).mean(-1, true);
  const Tensor r = at::rsqrt(m), rt = at::rsqrt(m + more);
  return {c * r, e * rt + c * change_of_rsqrt(r, rt, more)};
}

Pair layer_norm_modulate_plain(const Pair& x, const Pair& shift, const Pair& scale, double eps,
                               at::ScalarType out) {
  const Pair xh = standardize({x.base, defined(x)}, eps);
  const auto wide_rows = [&](const Tensor& m) { return m.to(xh.base.scalar_type()).unsqueeze(1); };
  const Tensor factor = 1 + wide_rows(scale.base);
  Tensor difference = xh.difference * factor;
  if (scale.difference.defined())
    difference = difference + (xh.base + xh.difference) * wide_rows(scale.difference);
  if (shift.difference.defined()) difference = difference + wide_rows(shift.difference);
  return to_dtype(Pair{xh.base * factor + wide_rows(shift.base), difference}, out);
}

// A modulation's difference as rows; a zero one is one row of zeros that all samples share.
struct DifferenceRows {
  DifferenceRows(const Pair& x, const Tensor& zeros)
      : memory(x.difference.defined() ? as_rows(x.difference) : zeros),
        rows{data<float>(memory), x.difference.defined() ? memory.stride(0) : 0} {}
  Tensor memory;
  kernels::Rows rows;
};

}  // namespace

Pair layer_norm_modulate(const Pair& x, const Pair& shift, const Pair& scale, double eps,
                         at::ScalarType out) {
  if (!x.difference.defined() && !shift.difference.defined() && !scale.difference.defined())
    return {ops::layer_norm_modulate(x.base, shift.base, scale.base, eps, out), {}};
  if (!has_kernel(x.base) || x.base.scalar_type() != at::kFloat || !has_kernel(out))
    return layer_norm_modulate_plain(x, shift, scale, eps, out);
  const Tensor b = x.base.contiguous(), d = defined(x).contiguous(), sh = as_rows(shift.base),
               sc = as_rows(scale.base), zeros = at::zeros({1, b.size(2)}, b.options());
  const DifferenceRows dsh(shift, zeros), dsc(scale, zeros);
  const auto like = b.options().dtype(out);
  const Pair y{at::empty(b.sizes(), like), at::empty(b.sizes(), like)};
  const int64_t n = b.size(1), width = b.size(2);
  by_type(y.base, [&](const auto& k, auto t) {
    using T = decltype(t);
    at::parallel_for(0, b.size(0), grain(n * width), [&](int64_t begin, int64_t end) {
      k.ln_modulate_pair(data<float>(b), data<float>(d), rows(sh), rows(sc), dsh.rows, dsc.rows, n,
                         width, static_cast<float>(eps), data<T>(y.base), data<T>(y.difference),
                         begin, end);
    });
  });
  return y;
}

// d(x + g y) = dx + g dy + dg (y + dy).
Pair gated_add(const Pair& x, const Pair& gate, const Pair& y) {
  Tensor difference = x.difference;
  const auto add = [&](const Tensor& g, const Tensor& part) {
    difference =
        ops::gated_add(difference.defined() ? difference : at::zeros_like(x.base), g, part);
  };
  if (y.difference.defined()) add(gate.base, y.difference);
  if (gate.difference.defined()) add(gate.difference, sum_of(y.base, y.difference));
  return {ops::gated_add(x.base, gate.base, y.base), difference};
}

GatedPair gated_add_modulate(const Pair& x, const Pair& gate, const Pair& y, const Pair& shift,
                             const Pair& scale, double eps) {
  const Pair out = ops::gated_add(x, gate, y);
  return {out, ops::layer_norm_modulate(out, shift, scale, eps, y.base.scalar_type())};
}

namespace {

// x r with r = 1 / sqrt(mean(x^2) + eps), times the weight; mean(x^2) grows by mean(d (2 b + d)).
Pair rms_norm(const Pair& narrow, const Tensor& weight, double eps) {
  const Pair x = wide(narrow);
  const Tensor &b = x.base, &d = x.difference;
  const Tensor m = b.square().mean(-1, true) + eps, more = (d * (2 * b + d)).mean(-1, true);
  const Tensor r = at::rsqrt(m), rt = at::rsqrt(m + more), w = weight.to(b.scalar_type());
  return to_dtype(Pair{b * r * w, (d * rt + b * change_of_rsqrt(r, rt, more)) * w},
                  narrow.base.scalar_type());
}

}  // namespace

Pair normalize_qk(const Pair& qkv, const QkWeights& weights, int64_t heads, double eps) {
  if (!qkv.difference.defined())
    return {ops::normalize_qk(qkv.base, weights, heads, eps), Tensor()};
  const int64_t b = qkv.base.size(0), n = qkv.base.size(1), d = qkv.base.size(2) / 3;
  const auto per_head = [&](int64_t part, const Tensor& weight) {
    const Pair x = ops::reshape(ops::narrow(qkv, -1, part * d, d), {b, n, heads, d / heads});
    return ops::reshape(rms_norm(x, weight, eps), {b, n, d});
  };
  return ops::cat(std::vector<Pair>{per_head(0, weights.q), per_head(1, weights.k),
                                    ops::narrow(qkv, -1, 2 * d, d)},
                  -1);
}
Pair normalize_qk(const Pair& first, const QkWeights& first_weights, const Pair& second,
                  const QkWeights& second_weights, int64_t heads, double eps) {
  return ops::cat(std::vector<Pair>{normalize_qk(first, first_weights, heads, eps),
                                    normalize_qk(second, second_weights, heads, eps)},
                  1);
}

Pair attention(const Pair& qkv, int64_t heads) {
  if (!qkv.difference.defined()) return {ops::attention(qkv.base, heads), Tensor()};
  const int64_t b = qkv.base.size(0), n = qkv.base.size(1), d = qkv.base.size(2) / 3;
  if (has_kernel(qkv.base)) {
    const Tensor x = qkv.base.contiguous(), dx = qkv.difference.contiguous();
    const Pair y{at::empty({b, n, d}, x.options()), at::empty({b, n, d}, x.options())};
    by_type(x, [&](const auto& k, auto t) {
      using T = decltype(t);
      at::parallel_for(0, b * heads, 1, [&](int64_t begin, int64_t end) {
        k.attention_pair(data<T>(x), data<T>(dx), n, d, heads, data<T>(y.base),
                         data<T>(y.difference), begin, end);
      });
    });
    return y;
  }
  const Pair x = wide(qkv);
  const Tensor both = ops::attention(at::cat({x.base, x.base + x.difference}), heads),
               base = both.narrow(0, 0, b);
  return to_dtype(Pair{base, both.narrow(0, b, b) - base}, qkv.base.scalar_type());
}

Pair timestep_embedding(const Pair& timestep, int64_t dim) {
  VGGFLOW_CHECK(!timestep.difference.defined(),
                "[timestep_embedding] expected one time for both values of a pair, got two");
  return {ops::timestep_embedding(timestep.base, dim), Tensor()};
}

}  // namespace ops
}  // namespace vggflow
