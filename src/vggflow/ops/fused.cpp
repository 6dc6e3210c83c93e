// The hot functions on Tensor: autograd functions over the fused CPU kernels, or a device's
// (device_functions.h). Elsewhere (double precision, kernels=plain) they fall back on plain
// differentiable ops, which are also their specification.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "vggflow/core/error.h"
#include "vggflow/kernels/transformer.h"
#include "vggflow/ops/attention.h"
#include "vggflow/ops/block_functions.h"
#include "vggflow/ops/cpu_kernels.h"
#include "vggflow/ops/device_functions.h"
#include "vggflow/ops/functional.h"

namespace vggflow::ops {
namespace {

using kernels::best_table;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::Variable;
using torch::autograd::variable_list;

struct LayerNormModulate : Function<LayerNormModulate> {
  static Variable forward(AutogradContext* ctx, const Variable& x_in, const Variable& shift_in,
                          const Variable& scale_in, double eps, at::ScalarType out) {
    const Tensor x = x_in.contiguous(), shift = as_rows(shift_in), scale = as_rows(scale_in);
    const int64_t b = x.size(0), n = x.size(1), d = x.size(2);
    Tensor y = at::empty(x.sizes(), x.options().dtype(out));
    Tensor mean = at::empty({b, n}, x.options()), rstd = at::empty({b, n}, x.options());
    by_type(y, [&](const auto& k, auto t) {
      using T = decltype(t);
      at::parallel_for(0, b, grain(n * d), [&](int64_t begin, int64_t end) {
        k.ln_modulate(data<float>(x), rows(shift), rows(scale), n, d, static_cast<float>(eps),
                      data<T>(y), data<float>(mean), data<float>(rstd), begin, end);
      });
    });
    ctx->save_for_backward({x, scale, mean, rstd});
    ctx->saved_data["mod_dtype"] = static_cast<int64_t>(scale_in.scalar_type());
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &scale = saved[1], &mean = saved[2], &rstd = saved[3];
    const Tensor gy = grads[0].contiguous();
    const int64_t b = x.size(0), n = x.size(1), d = x.size(2);
    Tensor gx = at::empty_like(x), gshift = at::empty({b, d}, x.options()),
           gscale = at::empty({b, d}, x.options());
    by_type(gy, [&](const auto& k, auto t) {
      using T = decltype(t);
      at::parallel_for(0, b, grain(n * d), [&](int64_t begin, int64_t end) {
        k.ln_modulate_backward(data<T>(gy), data<float>(x), rows(scale), data<float>(mean),
                               data<float>(rstd), n, d, data<float>(gx), data<float>(gshift),
                               data<float>(gscale), begin, end);
      });
    });
    const auto dtype = static_cast<at::ScalarType>(ctx->saved_data["mod_dtype"].toInt());
    return {gx, gshift.to(dtype), gscale.to(dtype), Variable(), Variable()};
  }
};

struct GatedAdd : Function<GatedAdd> {
  static Variable forward(AutogradContext* ctx, const Variable& x_in, const Variable& gate_in,
                          const Variable& y_in) {
    const Tensor x = x_in.contiguous(), gate = as_rows(gate_in), y = y_in.contiguous();
    const int64_t b = x.size(0), n = x.size(1), d = x.size(2);
    Tensor out = at::empty_like(x);
    by_type(y, [&](const auto& k, auto t) {
      using T = decltype(t);
      at::parallel_for(0, b, grain(n * d), [&](int64_t begin, int64_t end) {
        k.gated_add(data<float>(x), rows(gate), data<T>(y), n, d, data<float>(out), begin, end);
      });
    });
    ctx->save_for_backward({gate, y});
    ctx->saved_data["mod_dtype"] = static_cast<int64_t>(gate_in.scalar_type());
    return out;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &gate = saved[0], &y = saved[1];
    const Tensor go = grads[0].contiguous();
    const int64_t b = y.size(0), n = y.size(1), d = y.size(2);
    Tensor gy = at::empty_like(y), ggate = at::empty({b, d}, go.options());
    by_type(y, [&](const auto& k, auto t) {
      using T = decltype(t);
      at::parallel_for(0, b, grain(n * d), [&](int64_t begin, int64_t end) {
        k.gated_add_backward(data<float>(go), rows(gate), data<T>(y), n, d, data<T>(gy),
                             data<float>(ggate), begin, end);
      });
    });
    return {go, ggate.to(static_cast<at::ScalarType>(ctx->saved_data["mod_dtype"].toInt())), gy};
  }
};

struct Gelu : Function<Gelu> {
  static Variable forward(AutogradContext* ctx, const Variable& x_in) {
    const Tensor x = x_in.contiguous();
    Tensor y = at::empty_like(x);
    by_type(x, [&](const auto& k, auto t) {
      using T = decltype(t);
      at::parallel_for(0, x.numel(), kGrain, [&](int64_t begin, int64_t end) {
        k.gelu(data<T>(x), data<T>(y), begin, end);
      });
    });
    ctx->save_for_backward({x});
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const Tensor x = ctx->get_saved_variables()[0], gy = grads[0].contiguous();
    Tensor gx = at::empty_like(x);
    by_type(x, [&](const auto& k, auto t) {
      using T = decltype(t);
      at::parallel_for(0, x.numel(), kGrain, [&](int64_t begin, int64_t end) {
        k.gelu_backward(data<T>(x), data<T>(gy), data<T>(gx), begin, end);
      });
    });
    return {gx};
  }
};

struct Attention : Function<Attention> {
  static Variable forward(AutogradContext* ctx, const Variable& qkv_in, int64_t heads) {
    const Tensor qkv = qkv_in.contiguous();
    const int64_t b = qkv.size(0), n = qkv.size(1), d = qkv.size(2) / 3;
    Tensor out = at::empty({b, n, d}, qkv.options()),
           lse = at::empty({b, heads, n}, qkv.options().dtype(at::kFloat));
    by_type(qkv, [&](const auto& k, auto t) {
      using T = decltype(t);
      at::parallel_for(0, b * heads, 1, [&](int64_t begin, int64_t end) {
        k.attention(data<T>(qkv), n, d, heads, data<T>(out), data<float>(lse), begin, end);
      });
    });
    ctx->save_for_backward({qkv, out, lse});
    ctx->saved_data["heads"] = heads;
    return out;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &qkv = saved[0], &out = saved[1], &lse = saved[2];
    const Tensor go = grads[0].contiguous();
    const int64_t heads = ctx->saved_data["heads"].toInt(), b = qkv.size(0), n = qkv.size(1),
                  d = qkv.size(2) / 3;
    Tensor gqkv = at::empty_like(qkv);
    by_type(qkv, [&](const auto& k, auto t) {
      using T = decltype(t);
      at::parallel_for(0, b * heads, 1, [&](int64_t begin, int64_t end) {
        k.attention_backward(data<T>(go), data<T>(qkv), data<T>(out), data<float>(lse), n, d, heads,
                             data<T>(gqkv), begin, end);
      });
    });
    return {gqkv, Variable()};
  }
};

}  // namespace

Tensor layer_norm_modulate(const Tensor& x, const Tensor& shift, const Tensor& scale, double eps,
                           at::ScalarType out) {
  VGGFLOW_CHECK(
      x.dim() == 3 && shift.dim() == 2 && shift.size(0) == x.size(0) &&
          shift.size(1) == x.size(2) && scale.sizes() == shift.sizes(),
      "[layer_norm_modulate] expected x (B, N, D) and shift, scale (B, D), got {}, {}, {}",
      shape_string(x), shape_string(shift), shape_string(scale));
  if (const auto* table = has_kernel(out) ? device_kernels(x) : nullptr)
    return on_device::layer_norm_modulate(*table, x, shift, scale, eps, out);
  if (has_kernel(x) && x.scalar_type() == at::kFloat && has_kernel(out))
    return LayerNormModulate::apply(x, shift, scale, eps, out);
  const Tensor y = at::layer_norm(x, {x.size(2)}, {}, {}, eps);
  return (y * (1 + scale.to(x.scalar_type()).unsqueeze(1)) + shift.unsqueeze(1)).to(out);
}

Tensor gated_add(const Tensor& x, const Tensor& gate, const Tensor& y) {
  VGGFLOW_CHECK(x.dim() == 3 && y.sizes() == x.sizes() && gate.dim() == 2 &&
                    gate.size(0) == x.size(0) && gate.size(1) == x.size(2),
                "[gated_add] expected x, y (B, N, D) and gate (B, D), got {}, {}, {}",
                shape_string(x), shape_string(y), shape_string(gate));
  if (const auto* table = device_kernels(y); table && has_kernel(x.scalar_type()))
    return on_device::gated_add(*table, x, gate, y);
  if (x.scalar_type() == at::kFloat && has_kernel(y)) return GatedAdd::apply(x, gate, y);
  return x + gate.unsqueeze(1) * y.to(x.scalar_type());
}

Tensor gelu_tanh(const Tensor& x) {
  if (const auto* table = device_kernels(x)) return on_device::gelu_tanh(*table, x);
  if (has_kernel(x)) return Gelu::apply(x);
  return at::gelu(x, "tanh");
}

Tensor attention(const Tensor& qkv, int64_t heads) {
  VGGFLOW_CHECK(qkv.dim() == 3 && qkv.size(2) % (3 * heads) == 0,
                "[attention] expected qkv (B, N, 3D) with D a multiple of {} heads, got {}", heads,
                shape_string(qkv));
  if (has_kernel(qkv)) return Attention::apply(qkv, heads);
  const int64_t b = qkv.size(0), n = qkv.size(1), d = qkv.size(2) / 3;
  const auto x = qkv.reshape({b, n, 3, heads, d / heads}).permute({2, 0, 3, 1, 4}).unbind(0);
  return fused_attention(x[0], x[1], x[2], {}).transpose(1, 2).reshape({b, n, d});
}

Gated<Tensor> gated_add_modulate(const Tensor& x, const Tensor& gate, const Tensor& y,
                                 const Tensor& shift, const Tensor& scale, double eps) {
  if (const auto* table = device_kernels(y); table && has_kernel(x.scalar_type()))
    return on_device::gated_add_modulate(*table, x, gate, y, shift, scale, eps);
  const Tensor out = ops::gated_add(x, gate, y);
  return {out, ops::layer_norm_modulate(out, shift, scale, eps, y.scalar_type())};
}

void adamw_step(const kernels::AdamWStep& step, const Tensor& gradient, Tensor& values, Tensor& m,
                Tensor& v) {
  if (const auto* table = device_kernels(values))
    return on_device::adamw_step(*table, step, gradient, values, m, v);
  if (has_kernel(values)) {
    at::parallel_for(0, m.numel(), 65536, [&](int64_t begin, int64_t end) {
      best_table().adamw(step, gradient.const_data_ptr<float>(), values.mutable_data_ptr<float>(),
                         m.mutable_data_ptr<float>(), v.mutable_data_ptr<float>(), begin, end);
    });
    return;
  }
  m.mul_(step.beta1).add_(gradient, 1 - step.beta1);
  v.mul_(step.beta2).addcmul_(gradient, gradient, 1 - step.beta2);
  values.mul_(1 - step.lr * step.weight_decay)
      .addcdiv_(m / step.correction1, (v / step.correction2).sqrt_().add_(step.eps), -step.lr);
}

}  // namespace vggflow::ops
