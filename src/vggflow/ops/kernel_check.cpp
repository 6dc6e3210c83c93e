#include "vggflow/ops/kernel_check.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/ops/block_functions.h"
#include "vggflow/ops/joint_block.h"
#include "vggflow/ops/random_tensor.h"

namespace vggflow::ops {
namespace {

// One function for Tensor and Dual. `wide` marks the inputs that stay fp32 whatever the dtype of
// the products: the residual stream and a low-rank adapter's weights.
struct Case {
  std::string name;
  std::vector<std::vector<int64_t>> shapes;
  std::vector<bool> wide;
  std::function<std::vector<Tensor>(const std::vector<Tensor>&)> f;
  std::function<std::vector<Dual>(const std::vector<Dual>&)> f_dual;
  double float_bound = 2e-6;
  double bfloat16_bound = 6e-3;  // the roundings of a result and of a modulation's gradient
};

Tensor draw(uint64_t id, at::IntArrayRef shape) {
  return keyed_normal(29, Purpose::kTest, 0, id, 1, shape).squeeze(0).to(at::kDouble);
}

// Weights of a norm: constants near 1, the same in every dtype, on the device of x.
Tensor weights_like(const Tensor& x, int64_t count, uint64_t id) {
  return (1 + 0.2 * draw(id, {count})).to(at::kBFloat16).to(x.options());
}
const Tensor& value_of(const Tensor& x) { return x; }
const Tensor& value_of(const Dual& x) { return x.value; }

constexpr int64_t kBatch = 2, kTokens = 35, kHeads = 2, kRank = 8;

template <class T>
std::vector<T> adaln(const std::vector<T>& v) {
  return {layer_norm_modulate(v[0], v[1], v[2], 1e-6, value_of(v[1]).scalar_type())};
}
template <class T>
std::vector<T> gate(const std::vector<T>& v) {
  return {gated_add(v[0], v[1], v[2])};
}
template <class T>
std::vector<T> gate_next(const std::vector<T>& v) {
  const auto out = gated_add_modulate(v[0], v[1], v[2], v[3], v[4], 1e-6);
  return {out.stream, out.modulated};
}
template <class T>
std::vector<T> gelu_case(const std::vector<T>& v) {
  return {gelu_tanh(v[0])};
}
template <class T>
std::vector<T> joint_qk(const std::vector<T>& v) {
  const Tensor& x = value_of(v[0]);
  const int64_t head_dim = x.size(2) / (3 * kHeads);
  const auto w = [&](uint64_t id) { return weights_like(x, head_dim, id); };
  return {normalize_qk(v[0], QkWeights{w(61), w(62)}, v[1], QkWeights{w(63), w(64)}, kHeads, 1e-6)};
}
template <class T>
std::vector<T> attention_case(const std::vector<T>& v) {
  return {attention(v[0], kHeads)};
}
std::vector<Tensor> lora(const std::vector<Tensor>& v) { return {lora_up(v[0], v[1], v[2], 0.75)}; }
// B is a constant of the Dual, as everywhere.
std::vector<Dual> lora_dual(const std::vector<Dual>& v) {
  return {lora_up(v[0], v[1], v[2].value, 0.75)};
}

std::vector<Case> cases(int64_t d) {
  const std::vector<int64_t> rows{kBatch, kTokens, d}, mod{kBatch, d};
  const int64_t head_dim = std::min<int64_t>(d, 64);
  return {{"adaLN", {rows, mod, mod}, {true, false, false}, adaln<Tensor>, adaln<Dual>},
          {"gated add", {rows, mod, rows}, {true, false, false}, gate<Tensor>, gate<Dual>},
          {"gated add and adaLN",
           {rows, mod, rows, mod, mod},
           {true, false, false, false, false},
           gate_next<Tensor>,
           gate_next<Dual>},
          {"GELU", {rows}, {false}, gelu_case<Tensor>, gelu_case<Dual>},
          {"QK norm into one buffer",
           {{kBatch, kTokens, 3 * kHeads * head_dim}, {kBatch, 3, 3 * kHeads * head_dim}},
           {false, false},
           joint_qk<Tensor>,
           joint_qk<Dual>},
          {"LoRA up-add",
           {rows, {kBatch, kTokens, kRank}, {d, kRank}},
           {false, false, true},
           lora,
           lora_dual},
          {"attention",
           {{kBatch, kTokens, 3 * kHeads * 32}},
           {false},
           attention_case<Tensor>,
           attention_case<Dual>,
           /*float_bound=*/1e-5,
           /*bfloat16_bound=*/2e-2}};
}

double norm_error(const Tensor& got, const Tensor& want) {
  const Tensor g = got.detach().cpu().to(at::kDouble), w = want.detach().cpu().to(at::kDouble);
  VGGFLOW_CHECK(g.sizes() == w.sizes(), "[kernel_check] expected {}, got {}", shape_string(w),
                shape_string(g));
  return ((g - w).norm() / w.norm()).item<double>();
}

// Inputs as the kernel sees them, and the same numbers in double precision on the CPU.
struct Inputs {
  std::vector<Tensor> fast, exact;
};
Inputs inputs_of(const Case& c, at::ScalarType dtype, at::Device device, uint64_t id) {
  Inputs in;
  for (size_t i = 0; i < c.shapes.size(); ++i) {
    const Tensor x = draw(id + i, c.shapes[i]).to(c.wide[i] ? at::kFloat : dtype);
    in.fast.push_back(x.to(device));
    in.exact.push_back(x.to(at::kDouble));
  }
  return in;
}

double reverse_error(const Case& c, const Inputs& in) {
  const auto leaves = [](const std::vector<Tensor>& values) {
    std::vector<Tensor> all;
    for (const Tensor& x : values) all.push_back(x.detach().clone().requires_grad_(true));
    return all;
  };
  const std::vector<Tensor> fast = leaves(in.fast), exact = leaves(in.exact), got = c.f(fast),
                            want = c.f(exact);
  double worst = 0;
  std::vector<Tensor> fast_weights, exact_weights;
  for (size_t i = 0; i < got.size(); ++i) {
    worst = std::max(worst, norm_error(got[i], want[i]));
    const Tensor w = draw(40 + i, got[i].sizes()).to(got[i].scalar_type());
    fast_weights.push_back(w.to(got[i].device()));
    exact_weights.push_back(w.to(at::kDouble));
  }
  const auto g = torch::autograd::grad(got, fast, fast_weights),
             h = torch::autograd::grad(want, exact, exact_weights);
  for (size_t i = 0; i < g.size(); ++i) worst = std::max(worst, norm_error(g[i], h[i]));
  return worst;
}

double tangent_error(const Case& c, const Inputs& point, const Inputs& along) {
  const at::NoGradGuard no_graph;
  const auto duals = [](const std::vector<Tensor>& x, const std::vector<Tensor>& dx) {
    std::vector<Dual> all;
    for (size_t i = 0; i < x.size(); ++i) all.push_back({x[i], dx[i]});
    return all;
  };
  const auto got = c.f_dual(duals(point.fast, along.fast)),
             want = c.f_dual(duals(point.exact, along.exact));
  double worst = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    worst = std::max({worst, norm_error(got[i].value, want[i].value),
                      norm_error(got[i].tangent, want[i].tangent)});
  }
  return worst;
}

KernelError check_adamw(at::Device device) {
  const kernels::AdamWStep step{1e-2f, 0.9f, 0.99f, 1e-8f, 0.1f, 0.19f, 0.02f};
  double worst = 0;
  std::vector<Tensor> fast, exact;
  for (uint64_t id = 1; id <= 4; ++id) {
    const Tensor x = (id == 4 ? draw(id, {1001}).square() : draw(id, {1001})).to(at::kFloat);
    fast.push_back(x.to(device, x.scalar_type(), /*non_blocking=*/false, /*copy=*/true));
    exact.push_back(x.to(at::kDouble));
  }
  adamw_step(step, fast[0], fast[1], fast[2], fast[3]);
  adamw_step(step, exact[0], exact[1], exact[2], exact[3]);
  for (size_t i = 1; i < fast.size(); ++i) worst = std::max(worst, norm_error(fast[i], exact[i]));
  return {"AdamW fp32", worst, 1e-6};
}

}  // namespace

std::vector<KernelError> kernel_check(at::Device device) {
  std::vector<KernelError> results;
  for (const int64_t d : {33, 1536}) {
    for (const Case& c : cases(d)) {
      for (const auto dtype : {at::kFloat, at::kBFloat16}) {
        const Inputs x = inputs_of(c, dtype, device, 1), dx = inputs_of(c, dtype, device, 11);
        const bool wide = dtype == at::kFloat;
        results.push_back({fmt::format("{} {}, width {}", c.name, wide ? "fp32" : "bf16", d),
                           std::max(reverse_error(c, x), tangent_error(c, x, dx)),
                           wide ? c.float_bound : c.bfloat16_bound});
      }
    }
  }
  if (const RandomBlock block(3, 64, 12, 5, 32, false); device.is_cpu() && block.taken()) {
    results.push_back({"joint block bf16, width 160", block.error(), 8e-3});
    results.push_back({"joint block's gradients bf16, width 160", block.gradient_error(), 1.5e-2});
    results.push_back(
        {"joint block of pairs bf16, width 160", block.difference_error(1e-2), 1.2e-2});
  }
  results.push_back(check_adamw(device));
  return results;
}

}  // namespace vggflow::ops
