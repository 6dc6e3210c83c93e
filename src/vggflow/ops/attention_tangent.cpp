#include "vggflow/ops/attention_tangent.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <optional>

#include "vggflow/core/error.h"

namespace vggflow::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::Variable;
using torch::autograd::variable_list;

// (B, H, N, d) -> (B, N, H d), and a result of that shape as heads again.
Tensor join_heads(const Tensor& x) { return x.transpose(1, 2).reshape({x.size(0), x.size(2), -1}); }
Tensor as_heads(const Tensor& x, int64_t heads) {
  return x.unflatten(2, {heads, -1}).transpose(1, 2);
}

at::ScalarType sum_dtype(const Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

// a b for stacks of matrices, in fp32 (fp64) whatever goes in. CUDA multiplies narrow numbers and
// sums them wide; elsewhere they are widened first.
Tensor product(const Tensor& a, const Tensor& b) {
  if (b.is_cuda() && at::isReducedFloatingType(b.scalar_type()))
    return at::bmm(a.to(b.scalar_type()), b, at::kFloat);
  const auto dtype = sum_dtype(b);
  return at::bmm(a.to(dtype), b.to(dtype));
}
Tensor transposed(const Tensor& x) { return x.transpose(-1, -2); }
Tensor row_dot(const Tensor& a, const Tensor& b) { return (a * b).sum(-1, /*keepdim=*/true); }
Tensor first_half(const Tensor& x) { return x.narrow(-1, 0, x.size(-1) / 2); }
Tensor second_half(const Tensor& x) {
  const int64_t half = x.size(-1) / 2;
  return x.narrow(-1, half, half);
}

// How the work is cut: heads of one sample that go together, and query rows of one tile.
struct Tiling {
  int64_t heads, rows;
};

// Rows first: a product of fewer than 128 rows wastes what it loads of the keys.
Tiling tiling(const Tensor& q, const Tensor& k, int64_t tile_bytes) {
  constexpr int64_t kRows = 128;
  const int64_t row_bytes = k.size(2) * static_cast<int64_t>(c10::elementSize(sum_dtype(q)));
  const int64_t rows = std::clamp<int64_t>(tile_bytes / row_bytes, 1, std::min(kRows, q.size(2)));
  return {std::clamp<int64_t>(tile_bytes / (rows * row_bytes), 1, q.size(1)), rows};
}

// Calls f(sample, first head, heads) for all groups of heads.
template <class F>
void over_groups(const Tensor& q, const Tiling& t, F f) {
  for (int64_t b = 0; b < q.size(0); ++b)
    for (int64_t h = 0; h < q.size(1); h += t.heads) f(b, h, std::min(t.heads, q.size(1) - h));
}

// Calls f(first row, rows) for all tiles.
template <class F>
void over_tiles(int64_t rows, const Tiling& t, F f) {
  for (int64_t i = 0; i < rows; i += t.rows) f(i, std::min(t.rows, rows - i));
}

// A group of heads, (h, N or M, d); pairs side by side, (h, ., 2d), make two products one.
struct Heads {
  Tensor q, dq_q;           ///< q, and (dq | q)
  Tensor k, k_dk, v, v_dv;  ///< and (k | dk), (v | dv)
  Tensor bias;              ///< (h, N, M), or undefined
};

// A tile's P and U - rowsum(P U).
struct Scores {
  Tensor p, u;
};

struct TiledAttention : Function<TiledAttention> {
  static Tensor group(const Tensor& x, int64_t b, int64_t h, int64_t heads) {
    return x.select(0, b).narrow(0, h, heads);
  }

  static Heads heads_of(const variable_list& x, int64_t b, int64_t h, int64_t heads) {
    const auto of = [&](size_t i) { return group(x[i], b, h, heads); };
    const auto pair = [&](size_t i, size_t j) { return at::cat({of(i), of(j)}, -1); };
    Heads g{of(0), pair(3, 0), of(1), pair(1, 4), of(2), pair(2, 5), {}};
    if (x[6].defined())
      g.bias =
          group(x[6].expand({x[0].size(0), x[0].size(1), x[0].size(2), x[1].size(2)}), b, h, heads);
    return g;
  }

  static Tensor softmax_rows(const Heads& x, int64_t i, int64_t rows) {
    Tensor s = product(x.q.narrow(1, i, rows), transposed(x.k));
    if (x.bias.defined()) s.add_(x.bias.narrow(1, i, rows));
    return at::softmax(s, -1);
  }
  static Tensor tangent_rows(const Heads& x, int64_t i, int64_t rows) {
    return product(x.dq_q.narrow(1, i, rows), transposed(x.k_dk));
  }
  // P (a - rowsum(P a)) in one pass.
  static Tensor through_softmax(const Tensor& a, const Tensor& p) {
    return at::_softmax_backward_data(a, p, -1, p.scalar_type());
  }

  static variable_list forward(AutogradContext* ctx, const Variable& q, const Variable& k,
                               const Variable& v, const Variable& dq, const Variable& dk,
                               const Variable& dv, const std::optional<Tensor>& bias,
                               int64_t tile_bytes) {
    const Tiling t = tiling(q, k, tile_bytes);
    const variable_list all{q, k, v, dq, dk, dv, bias.value_or(Tensor())};
    Tensor out = at::empty({q.size(0), q.size(2), q.size(1) * v.size(3)}, v.options()),
           dout = at::empty_like(out);
    const Tensor o = as_heads(out, q.size(1)), d_o = as_heads(dout, q.size(1));
    over_groups(q, t, [&](int64_t b, int64_t h, int64_t heads) {
      const Heads x = heads_of(all, b, h, heads);
      over_tiles(q.size(2), t, [&](int64_t i, int64_t rows) {
        const Tensor p = softmax_rows(x, i, rows);
        const Tensor both = product(p, x.v_dv);  // (P v | P dv)
        group(o, b, h, heads).narrow(1, i, rows).copy_(first_half(both));
        const Tensor w = through_softmax(tangent_rows(x, i, rows), p);
        group(d_o, b, h, heads).narrow(1, i, rows).copy_(product(w, x.v).add_(second_half(both)));
      });
    });
    ctx->save_for_backward(all);
    ctx->saved_data["tile_bytes"] = tile_bytes;
    return {out, dout};
  }

  // With cotangents G of O and H of dO, and a bar for what belongs to a tile's matrix:
  //   Wbar = H v^T - rowsum(P H v^T),  Ubar = P Wbar,
  //   Sbar = P (A - rowsum(P A)),  A = G v^T + H dv^T + (U - rowsum(P U)) Wbar.
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    VGGFLOW_CHECK(!at::GradMode::is_enabled(),
                  "[attention] second derivatives cannot run through the tangent of attention over "
                  "long sequences, which is computed in tiles; use attend_whole");
    const variable_list x = ctx->get_saved_variables();
    const Tensor& q = x[0];
    const Tiling t = tiling(q, x[1], ctx->saved_data["tile_bytes"].toInt());
    const Tensor g = as_heads(grads[0], q.size(1)), dg = as_heads(grads[1], q.size(1));
    variable_list out(8);  // bias and tile_bytes have none
    for (size_t i = 0; i < 6; ++i)
      out[i] = at::empty({x[i].size(0), x[i].size(2), x[i].size(1), x[i].size(3)}, x[i].options())
                   .transpose(1, 2);
    over_groups(q, t, [&](int64_t b, int64_t h, int64_t heads) {
      const auto result = [&](size_t i) { return group(out[i], b, h, heads); };
      const Heads y = heads_of(x, b, h, heads);
      const Tensor g_dg = at::cat({group(g, b, h, heads), group(dg, b, h, heads)}, -1);
      const auto wide = y.k_dk.options().dtype(sum_dtype(q));
      const Tensor gk = at::zeros(y.k_dk.sizes(), wide), gv = at::zeros(y.v_dv.sizes(), wide);
      over_tiles(q.size(2), t, [&](int64_t i, int64_t rows) {
        const Tensor gi = g_dg.narrow(1, i, rows), qi = y.dq_q.narrow(1, i, rows);
        const Tensor p = softmax_rows(y, i, rows);
        Tensor u = tangent_rows(y, i, rows);
        u.sub_(row_dot(p, u));
        Tensor wbar = product(second_half(gi), transposed(y.v));
        wbar.sub_(row_dot(p, wbar));
        gv.add_(product(transposed(p), gi));
        first_half(gv).add_(product(transposed(p * u), second_half(gi)));
        const Tensor sbar = through_softmax(product(gi, transposed(y.v_dv)).addcmul_(u, wbar), p);
        const Tensor ubar = wbar.mul_(p);
        const Tensor from_u = product(ubar, y.k_dk);  // (Ubar k | Ubar dk)
        result(3).narrow(1, i, rows).copy_(first_half(from_u));
        result(0).narrow(1, i, rows).copy_(product(sbar, y.k).add_(second_half(from_u)));
        gk.add_(product(transposed(ubar), qi));
        first_half(gk).add_(product(transposed(sbar), second_half(qi)));
      });
      result(1).copy_(first_half(gk));
      result(4).copy_(second_half(gk));
      result(2).copy_(first_half(gv));
      result(5).copy_(second_half(gv));
    });
    return out;
  }
};

}  // namespace

Dual attend_whole(const Dual& q, const Dual& k, const Dual& v, const Tensor& bias) {
  const Tensor kt = transposed(k.value);
  const Tensor s = at::matmul(q.value, kt);  // (B, H, N, M)
  const Tensor p = at::softmax(bias.defined() ? s + bias : s, -1);
  const Tensor ds = at::matmul(q.tangent, kt) + at::matmul(q.value, transposed(k.tangent));
  const Tensor dp = p * (ds - (p * ds).sum(-1, true));
  return {join_heads(at::matmul(p, v.value)),
          join_heads(at::matmul(dp, v.value) + at::matmul(p, v.tangent))};
}

Dual attend_in_tiles(const Dual& q, const Dual& k, const Dual& v, const Tensor& bias,
                     int64_t tile_bytes) {
  const auto y =
      TiledAttention::apply(q.value, k.value, v.value, q.tangent, k.tangent, v.tangent,
                            bias.defined() ? std::optional(bias) : std::nullopt, tile_bytes);
  return {y[0], y[1]};
}

Dual attend(const Dual& q, const Dual& k, const Dual& v, const Tensor& bias) {
  const bool whole =
      q.value.size(2) * k.value.size(2) <= kWholeScores || (bias.defined() && bias.requires_grad());
  if (whole) return attend_whole(q, k, v, bias);
  return attend_in_tiles(q, k, v, bias, q.value.is_cpu() ? kCpuTileBytes : kDeviceTileBytes);
}

}  // namespace vggflow::ops
