#include "vggflow/ops/device_functions.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>
#include <torch/csrc/autograd/custom_function.h>

#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/device/device.h"

namespace vggflow::ops {
namespace {

struct Override {
  at::DeviceType device = at::kCPU;
  const kernels::DeviceTable* table = nullptr;
};
Override override_table;

bool has_type(const Tensor& x) {
  return x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16;
}

}  // namespace

const kernels::DeviceTable* device_kernels(const Tensor& x) {
  if (!has_type(x) || !fused_kernels()) return nullptr;
  if (override_table.table && x.device().type() == override_table.device)
    return override_table.table;
  const device::CudaApi* api = x.is_cuda() ? cuda_api() : nullptr;
  return api ? api->kernels : nullptr;
}

DeviceKernelsScope::DeviceKernelsScope(at::DeviceType device, const kernels::DeviceTable& table) {
  VGGFLOW_CHECK(!override_table.table, "[kernels] expected one DeviceKernelsScope at a time");
  override_table = {device, &table};
}
DeviceKernelsScope::~DeviceKernelsScope() { override_table = {}; }

namespace on_device {
namespace {

using kernels::Array;
using kernels::Modulation;
using kernels::QkvStream;
using kernels::Type;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::Variable;
using torch::autograd::variable_list;

// Makes like's device the current one; the CPU needs none.
c10::OptionalDeviceGuard guard_of(const Tensor& like) {
  return like.is_cpu() ? c10::OptionalDeviceGuard() : c10::OptionalDeviceGuard(like.device());
}

template <class A>
void launch(const Table& table, const char* (*kernel)(const A&, void*), const A& arguments,
            const Tensor& like, const char* name) {
  const c10::OptionalDeviceGuard guard = guard_of(like);
  const char* problem = kernel(arguments, table.stream());
  VGGFLOW_CHECK(!problem, "[{}] the fused kernel did not start: {}", name, problem);
}

Type type_of(const Tensor& x) {
  return x.scalar_type() == at::kFloat ? Type::kFloat : Type::kBfloat16;
}
Array array(const Tensor& x) { return {x.const_data_ptr(), type_of(x)}; }

// Modulations stay in place as chunks of a wider matrix; other dtypes become fp32.
Tensor as_rows(const Tensor& x) {
  const Tensor y = has_type(x) ? x : x.to(at::kFloat);
  return y.stride(1) == 1 ? y : y.contiguous();
}
Modulation rows(const Tensor& x) { return {x.const_data_ptr(), x.stride(0), type_of(x)}; }

Tensor floats(at::IntArrayRef shape, const Tensor& like) {
  return at::empty(shape, like.options().dtype(at::kFloat));
}
float* float_data(const Tensor& x) { return static_cast<float*>(x.mutable_data_ptr()); }

at::ScalarType saved_dtype(AutogradContext* ctx) {
  return static_cast<at::ScalarType>(ctx->saved_data["dtype"].toInt());
}
void save_dtype(AutogradContext* ctx, const Tensor& x) {
  ctx->saved_data["dtype"] = static_cast<int64_t>(x.scalar_type());
}

// What one adaLN kernel reads and makes, kept alive over the launch.
struct LnCall {
  Tensor x, dx, shift, scale, dshift, dscale, y, dy, mean, rstd;
};
LnCall run_ln(const Table& table, const Tensor& x, const Tensor& dx, const Tensor& shift,
              const Tensor& scale, const Tensor& dshift, const Tensor& dscale, double eps,
              at::ScalarType out) {
  LnCall c;
  c.x = x.contiguous();
  c.shift = as_rows(shift);
  c.scale = as_rows(scale);
  const int64_t b = x.size(0), n = x.size(1), d = x.size(2);
  c.y = at::empty(x.sizes(), x.options().dtype(out));
  c.mean = floats({b, n}, x);
  c.rstd = floats({b, n}, x);
  kernels::LnModulate a{.x = c.x.const_data_ptr(),
                        .dx = nullptr,
                        .shift = rows(c.shift),
                        .scale = rows(c.scale),
                        .dshift = {},
                        .dscale = {},
                        .y = c.y.mutable_data_ptr(),
                        .dy = nullptr,
                        .mean = float_data(c.mean),
                        .rstd = float_data(c.rstd),
                        .batch = b,
                        .rows = n,
                        .width = d,
                        .eps = static_cast<float>(eps),
                        .x_type = type_of(c.x),
                        .y_type = type_of(c.y)};
  if (dx.defined()) {
    c.dx = dx.to(x.scalar_type()).contiguous();
    c.dshift = as_rows(dshift);
    c.dscale = as_rows(dscale);
    c.dy = at::empty_like(c.y);
    a.dx = c.dx.const_data_ptr();
    a.dshift = rows(c.dshift);
    a.dscale = rows(c.dscale);
    a.dy = c.dy.mutable_data_ptr();
  }
  launch(table, table.ln_modulate, a, x, "layer_norm_modulate");
  return c;
}

struct LnGradients {
  Tensor x, shift, scale;
};
// The gradient of x (plus `add` where it is defined) and of both modulations, fp32.
LnGradients run_ln_backward(const Tensor& gy_in, const Tensor& x, const Tensor& scale,
                            const Tensor& mean, const Tensor& rstd, const Tensor& add) {
  const Table& table = *device_kernels(x);
  const Tensor gy = gy_in.contiguous(), more = add.defined() ? add.contiguous() : add;
  const int64_t b = x.size(0), n = x.size(1), d = x.size(2);
  LnGradients g{at::empty_like(x), floats({b, d}, x), floats({b, d}, x)};
  const Tensor partial = floats({b, kernels::partials(n), 2, d}, x);
  launch(table, table.ln_modulate_backward,
         {.gy = gy.const_data_ptr(),
          .x = x.const_data_ptr(),
          .add = more.defined() ? more.const_data_ptr() : nullptr,
          .scale = rows(scale),
          .mean = float_data(mean),
          .rstd = float_data(rstd),
          .gx = g.x.mutable_data_ptr(),
          .gshift = float_data(g.shift),
          .gscale = float_data(g.scale),
          .partial = float_data(partial),
          .batch = b,
          .rows = n,
          .width = d,
          .x_type = type_of(x),
          .y_type = type_of(gy)},
         x, "layer_norm_modulate");
  return g;
}

struct LayerNormModulate : Function<LayerNormModulate> {
  static Variable forward(AutogradContext* ctx, const Table* table, const Variable& x,
                          const Variable& shift, const Variable& scale, double eps,
                          at::ScalarType out) {
    const LnCall c = run_ln(*table, x, {}, shift, scale, {}, {}, eps, out);
    ctx->save_for_backward({c.x, c.scale, c.mean, c.rstd});
    save_dtype(ctx, scale);
    return c.y;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto s = ctx->get_saved_variables();
    const LnGradients g = run_ln_backward(grads[0], s[0], s[1], s[2], s[3], {});
    const auto dtype = saved_dtype(ctx);
    return {Variable(), g.x, g.shift.to(dtype), g.scale.to(dtype), Variable(), Variable()};
  }
};

// The modulation that may follow a gate, and the tangents of everything, where they are defined.
struct Next {
  Tensor shift, scale;
  double eps = 0;
};
struct GateTangents {
  Tensor x, gate, y, shift, scale;
};
struct GateCall {
  Tensor x, gate, y, shift, scale, out, next, mean, rstd, dout, dnext;
};
GateCall run_gate(const Table& table, const Tensor& x, const Tensor& gate, const Tensor& y,
                  const Next& next, const GateTangents& tangents) {
  GateCall c;
  c.x = x.contiguous();
  c.gate = as_rows(gate);
  c.y = y.contiguous();
  const int64_t b = x.size(0), n = x.size(1), d = x.size(2);
  c.out = at::empty_like(c.x);
  kernels::Gate a{};
  a.x = c.x.const_data_ptr();
  a.y = c.y.const_data_ptr();
  a.gate = rows(c.gate);
  a.out = c.out.mutable_data_ptr();
  a.batch = b;
  a.rows = n;
  a.width = d;
  a.x_type = type_of(c.x);
  a.y_type = type_of(c.y);
  if (next.shift.defined()) {
    c.shift = as_rows(next.shift);
    c.scale = as_rows(next.scale);
    c.next = at::empty_like(c.y);
    c.mean = floats({b, n}, x);
    c.rstd = floats({b, n}, x);
    a.shift = rows(c.shift);
    a.scale = rows(c.scale);
    a.next = c.next.mutable_data_ptr();
    a.mean = float_data(c.mean);
    a.rstd = float_data(c.rstd);
    a.eps = static_cast<float>(next.eps);
  }
  GateTangents t;  // kept alive over the launch
  if (tangents.x.defined()) {
    t = {tangents.x.to(x.scalar_type()).contiguous(),
         as_rows(tangents.gate),
         tangents.y.to(y.scalar_type()).contiguous(),
         {},
         {}};
    c.dout = at::empty_like(c.out);
    a.dx = t.x.const_data_ptr();
    a.dy = t.y.const_data_ptr();
    a.dgate = rows(t.gate);
    a.dout = c.dout.mutable_data_ptr();
    if (next.shift.defined()) {
      t.shift = as_rows(tangents.shift);
      t.scale = as_rows(tangents.scale);
      c.dnext = at::empty_like(c.next);
      a.dshift = rows(t.shift);
      a.dscale = rows(t.scale);
      a.dnext = c.dnext.mutable_data_ptr();
    }
  }
  launch(table, table.gate, a, x, "gated_add");
  return c;
}

struct GateGradients {
  Tensor gate, y;
};
GateGradients run_gate_backward(const Tensor& gout_in, const Tensor& gate, const Tensor& y) {
  const Table& table = *device_kernels(y);
  const Tensor gout = gout_in.contiguous();
  const int64_t b = y.size(0), n = y.size(1), d = y.size(2);
  GateGradients g{floats({b, d}, y), at::empty_like(y)};
  const Tensor partial = floats({b, kernels::partials(n), d}, y);
  launch(table, table.gate_backward,
         {.gout = gout.const_data_ptr(),
          .y = y.const_data_ptr(),
          .gate = rows(gate),
          .gy = g.y.mutable_data_ptr(),
          .ggate = float_data(g.gate),
          .partial = float_data(partial),
          .batch = b,
          .rows = n,
          .width = d,
          .x_type = type_of(gout),
          .y_type = type_of(y)},
         y, "gated_add");
  return g;
}

struct GatedAdd : Function<GatedAdd> {
  static Variable forward(AutogradContext* ctx, const Table* table, const Variable& x,
                          const Variable& gate, const Variable& y) {
    const GateCall c = run_gate(*table, x, gate, y, {}, {});
    ctx->save_for_backward({c.gate, c.y});
    save_dtype(ctx, gate);
    return c.out;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto s = ctx->get_saved_variables();
    const GateGradients g = run_gate_backward(grads[0], s[0], s[1]);
    return {Variable(), grads[0], g.gate.to(saved_dtype(ctx)), g.y};
  }
};

struct GatedAddModulate : Function<GatedAddModulate> {
  static variable_list forward(AutogradContext* ctx, const Table* table, const Variable& x,
                               const Variable& gate, const Variable& y, const Variable& shift,
                               const Variable& scale, double eps) {
    const GateCall c = run_gate(*table, x, gate, y, {shift, scale, eps}, {});
    ctx->set_materialize_grads(false);  // a result without use has no gradient to be read
    ctx->save_for_backward({c.gate, c.y, c.out, c.scale, c.mean, c.rstd});
    save_dtype(ctx, gate);
    return {c.out, c.next};
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto s = ctx->get_saved_variables();
    const auto dtype = saved_dtype(ctx);
    LnGradients ln{grads[0], {}, {}};
    if (grads[1].defined()) {
      ln = run_ln_backward(grads[1], s[2], s[3], s[4], s[5], grads[0]);
      ln.shift = ln.shift.to(dtype);
      ln.scale = ln.scale.to(dtype);
    }
    const GateGradients g = run_gate_backward(ln.x, s[0], s[1]);
    return {Variable(), ln.x, g.gate.to(dtype), g.y, ln.shift, ln.scale, Variable()};
  }
};

struct Gelu : Function<Gelu> {
  static Variable forward(AutogradContext* ctx, const Table* table, const Variable& x_in) {
    const Tensor x = x_in.contiguous();
    Tensor y = at::empty_like(x);
    launch(*table, table->gelu,
           {.x = x.const_data_ptr(),
            .dx = nullptr,
            .y = y.mutable_data_ptr(),
            .dy = nullptr,
            .count = x.numel(),
            .type = type_of(x)},
           x, "gelu_tanh");
    ctx->save_for_backward({x});
    return y;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const Tensor x = ctx->get_saved_variables()[0], gy = grads[0].contiguous();
    const Table& table = *device_kernels(x);
    Tensor gx = at::empty_like(x);
    launch(table, table.gelu_backward,
           {.gy = gy.const_data_ptr(),
            .x = x.const_data_ptr(),
            .gx = gx.mutable_data_ptr(),
            .count = x.numel(),
            .type = type_of(x)},
           x, "gelu_tanh");
    return {Variable(), gx};
  }
};

int64_t tokens(const Tensor& x) { return x.defined() ? x.size(1) : 0; }

// One stream of a joint buffer; `gradient` and `tangent` where they are wanted.
QkvStream stream(const Tensor& qkv, const QkWeights& weights, const Tensor& tangent,
                 const Tensor& gradient) {
  if (tokens(qkv) == 0) return {};
  return {.qkv = qkv.const_data_ptr(),
          .dqkv = tangent.defined() ? tangent.const_data_ptr() : nullptr,
          .gqkv = gradient.defined() ? gradient.mutable_data_ptr() : nullptr,
          .rows = qkv.size(1),
          .q_weight = array(weights.q),
          .k_weight = array(weights.k)};
}
Tensor contiguous(const Tensor& x) { return x.defined() ? x.contiguous() : x; }
QkWeights contiguous(const QkWeights& w) {
  const auto usable = [](const Tensor& x) {
    return x.defined() ? (has_type(x) ? x : x.to(at::kFloat)).contiguous() : x;
  };
  return {usable(w.q), usable(w.k)};
}

struct QkCall {
  Tensor first, second, out, dout;
  QkWeights first_weights, second_weights;
};
QkCall run_qk(const Table& table, const Dual& first, const QkWeights& w1, const Dual& second,
              const QkWeights& w2, int64_t heads, double eps) {
  QkCall c;
  c.first = first.value.contiguous();
  c.second = contiguous(second.value);
  c.first_weights = contiguous(w1);
  c.second_weights = contiguous(w2);
  const Tensor d1 = contiguous(first.tangent), d2 = contiguous(second.tangent);
  const int64_t b = c.first.size(0), width = c.first.size(2);
  c.out = at::empty({b, tokens(c.first) + tokens(c.second), width}, c.first.options());
  if (d1.defined()) c.dout = at::empty_like(c.out);
  launch(table, table.qk_norm,
         {.first = stream(c.first, c.first_weights, d1, {}),
          .second = stream(c.second, c.second_weights, d2, {}),
          .out = c.out.mutable_data_ptr(),
          .dout = c.dout.defined() ? c.dout.mutable_data_ptr() : nullptr,
          .batch = b,
          .heads = heads,
          .head_dim = width / (3 * heads),
          .eps = static_cast<float>(eps),
          .type = type_of(c.first)},
         c.first, "normalize_qk");
  return c;
}

struct NormalizeQk : Function<NormalizeQk> {
  static Variable forward(AutogradContext* ctx, const Table* table, const Variable& first,
                          const Variable& second, const QkWeights& w1, const QkWeights& w2,
                          int64_t heads, double eps) {
    const QkCall c = run_qk(*table, {first, {}}, w1, {second, {}}, w2, heads, eps);
    ctx->save_for_backward({c.first, c.second, c.first_weights.q, c.first_weights.k,
                            c.second_weights.q, c.second_weights.k});
    ctx->saved_data["heads"] = heads;
    ctx->saved_data["eps"] = eps;
    return c.out;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto s = ctx->get_saved_variables();
    const Table& table = *device_kernels(s[0]);
    const Tensor gout = grads[0].contiguous(), g1 = at::empty_like(s[0]), g2 = at::empty_like(s[1]);
    const int64_t heads = ctx->saved_data["heads"].toInt();
    launch(table, table.qk_norm_backward,
           {.first = stream(s[0], {s[2], s[3]}, {}, g1),
            .second = stream(s[1], {s[4], s[5]}, {}, g2),
            .gout = gout.const_data_ptr(),
            .batch = s[0].size(0),
            .heads = heads,
            .head_dim = s[0].size(2) / (3 * heads),
            .eps = static_cast<float>(ctx->saved_data["eps"].toDouble()),
            .type = type_of(s[0])},
           s[0], "normalize_qk");
    return {Variable(), g1, g2, Variable(), Variable(), Variable(), Variable()};
  }
};

kernels::LoraUp lora_arguments(const Tensor& y, const Tensor& u, const Tensor& b, double scale,
                               const Tensor& out) {
  return {.y = y.const_data_ptr(),
          .u = u.const_data_ptr(),
          .dy = nullptr,
          .du = nullptr,
          .b = static_cast<const float*>(b.const_data_ptr()),
          .out = out.mutable_data_ptr(),
          .dout = nullptr,
          .rows = y.numel() / y.size(-1),
          .width = y.size(-1),
          .rank = u.size(-1),
          .scale = static_cast<float>(scale),
          .type = type_of(y)};
}

struct LoraUp : Function<LoraUp> {
  static Variable forward(AutogradContext* ctx, const Table* table, const Variable& y_in,
                          const Variable& u_in, const Variable& b_in, double scale) {
    const Tensor y = y_in.contiguous(), u = u_in.contiguous(), b = b_in.to(at::kFloat).contiguous();
    Tensor out = at::empty_like(y);
    launch(*table, table->lora_up, lora_arguments(y, u, b, scale, out), y, "lora_up");
    ctx->save_for_backward({u, b});
    ctx->saved_data["scale"] = scale;
    save_dtype(ctx, b_in);
    return out;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto s = ctx->get_saved_variables();
    const Tensor &u = s[0], &b = s[1], gout = grads[0].contiguous();
    const Table& table = *device_kernels(u);
    const int64_t count = gout.numel() / gout.size(-1), width = gout.size(-1), rank = u.size(-1);
    Tensor gu = at::empty_like(u), gb = floats({width, rank}, u);
    const Tensor partial = floats({kernels::partials(count), width, rank}, u);
    launch(table, table.lora_up_backward,
           {.gout = gout.const_data_ptr(),
            .u = u.const_data_ptr(),
            .b = float_data(b),
            .gu = gu.mutable_data_ptr(),
            .gb = float_data(gb),
            .partial = float_data(partial),
            .rows = count,
            .width = width,
            .rank = rank,
            .scale = static_cast<float>(ctx->saved_data["scale"].toDouble()),
            .type = type_of(gout)},
           gout, "lora_up");
    return {Variable(), grads[0], gu, gb.to(saved_dtype(ctx)), Variable()};
  }
};

}  // namespace

Tensor layer_norm_modulate(const Table& table, const Tensor& x, const Tensor& shift,
                           const Tensor& scale, double eps, at::ScalarType out) {
  return LayerNormModulate::apply(&table, x, shift, scale, eps, out);
}
Dual layer_norm_modulate(const Table& table, const Dual& x, const Dual& shift, const Dual& scale,
                         double eps, at::ScalarType out) {
  const LnCall c = run_ln(table, x.value, x.tangent, shift.value, scale.value, shift.tangent,
                          scale.tangent, eps, out);
  return {c.y, c.dy};
}

Tensor gated_add(const Table& table, const Tensor& x, const Tensor& gate, const Tensor& y) {
  return GatedAdd::apply(&table, x, gate, y);
}
Dual gated_add(const Table& table, const Dual& x, const Dual& gate, const Dual& y) {
  const GateCall c = run_gate(table, x.value, gate.value, y.value, {},
                              {x.tangent, gate.tangent, y.tangent, {}, {}});
  return {c.out, c.dout};
}

Gated<Tensor> gated_add_modulate(const Table& table, const Tensor& x, const Tensor& gate,
                                 const Tensor& y, const Tensor& shift, const Tensor& scale,
                                 double eps) {
  const variable_list out = GatedAddModulate::apply(&table, x, gate, y, shift, scale, eps);
  return {out[0], out[1]};
}
Gated<Dual> gated_add_modulate(const Table& table, const Dual& x, const Dual& gate, const Dual& y,
                               const Dual& shift, const Dual& scale, double eps) {
  const GateCall c = run_gate(table, x.value, gate.value, y.value, {shift.value, scale.value, eps},
                              {x.tangent, gate.tangent, y.tangent, shift.tangent, scale.tangent});
  return {{c.out, c.dout}, {c.next, c.dnext}};
}

Tensor gelu_tanh(const Table& table, const Tensor& x) { return Gelu::apply(&table, x); }
Dual gelu_tanh(const Table& table, const Dual& x) {
  const Tensor value = x.value.contiguous(), tangent = x.tangent.contiguous();
  Dual y{at::empty_like(value), at::empty_like(value)};
  launch(table, table.gelu,
         {.x = value.const_data_ptr(),
          .dx = tangent.const_data_ptr(),
          .y = y.value.mutable_data_ptr(),
          .dy = y.tangent.mutable_data_ptr(),
          .count = value.numel(),
          .type = type_of(value)},
         value, "gelu_tanh");
  return y;
}

Tensor normalize_qk(const Table& table, const Tensor& first, const QkWeights& w1,
                    const Tensor& second, const QkWeights& w2, int64_t heads, double eps) {
  // A function of autograd takes no undefined tensor: an absent stream has no tokens.
  const Tensor other =
      second.defined() ? second : at::empty({first.size(0), 0, first.size(2)}, first.options());
  return NormalizeQk::apply(&table, first, other, w1, w2, heads, eps);
}
Dual normalize_qk(const Table& table, const Dual& first, const QkWeights& w1, const Dual& second,
                  const QkWeights& w2, int64_t heads, double eps) {
  const QkCall c = run_qk(table, first, w1, second, w2, heads, eps);
  return {c.out, c.dout};
}

Tensor lora_up(const Table& table, const Tensor& y, const Tensor& u, const Tensor& b,
               double scale) {
  return LoraUp::apply(&table, y, u, b, scale);
}
Dual lora_up(const Table& table, const Dual& y, const Dual& u, const Tensor& b_in, double scale) {
  const Tensor value = y.value.contiguous(), tangent = y.tangent.contiguous(),
               down = u.value.contiguous(), down_tangent = u.tangent.contiguous(),
               b = b_in.to(at::kFloat).contiguous();
  Dual out{at::empty_like(value), at::empty_like(value)};
  kernels::LoraUp a = lora_arguments(value, down, b, scale, out.value);
  a.dy = tangent.const_data_ptr();
  a.du = down_tangent.const_data_ptr();
  a.dout = out.tangent.mutable_data_ptr();
  launch(table, table.lora_up, a, value, "lora_up");
  return out;
}

void adamw_step(const Table& table, const kernels::AdamWStep& step, const Tensor& gradient,
                Tensor& values, Tensor& m, Tensor& v) {
  for (const Tensor& x : {gradient, values, m, v})
    VGGFLOW_CHECK(x.is_contiguous() && x.scalar_type() == at::kFloat,
                  "[adamw] expected flat fp32 buffers, got {} of {}", shape_string(x),
                  c10::toString(x.scalar_type()));
  const c10::OptionalDeviceGuard guard = guard_of(values);
  const char* problem =
      table.adamw(step,
                  {static_cast<const float*>(gradient.const_data_ptr()), float_data(values),
                   float_data(m), float_data(v), values.numel()},
                  table.stream());
  VGGFLOW_CHECK(!problem, "[adamw] the fused kernel did not start: {}", problem);
}

}  // namespace on_device
}  // namespace vggflow::ops
