#include "vggflow/proofs/self_check.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "vggflow/families/sd3/mmdit.h"
#include "vggflow/ops/random_tensor.h"

namespace vggflow {
namespace {

double relative_error(const Tensor& got, const Tensor& want) {
  return (got.to(at::kDouble) - want.to(at::kDouble)).abs().max().item<double>() /
         std::max(1.0, want.abs().max().item<double>());
}

Tensor random_values(uint64_t id, at::IntArrayRef shape) {
  return keyed_normal(17, Purpose::kTest, 0, id, 1, shape).squeeze(0);
}

using Function = std::function<Tensor(const std::vector<Tensor>&)>;

// Values and gradients of the fused path in `dtype` against the same function in float64, which
// takes plain ops.
void check_fused(const std::string& name, const Function& f, const std::vector<Tensor>& inputs,
                 at::ScalarType dtype, double bound, std::vector<CheckResult>& results) {
  std::vector<Tensor> fast, exact;
  for (const Tensor& x : inputs) {
    fast.push_back(x.to(dtype).requires_grad_(true));
    exact.push_back(x.to(dtype).to(at::kDouble).requires_grad_(true));
  }
  const Tensor y = f(fast), z = f(exact);
  double worst = relative_error(y, z.detach());
  const auto got = torch::autograd::grad({y.sum()}, fast),
             want = torch::autograd::grad({z.sum()}, exact);
  for (size_t i = 0; i < got.size(); ++i) worst = std::max(worst, relative_error(got[i], want[i]));
  results.push_back({name + (dtype == at::kFloat ? " fp32" : " bf16"), worst, bound});
}

MmditOptions tiny_options() {
  return {.sample_size = 8,
          .channels = 3,
          .patch_size = 4,
          .layers = 2,
          .heads = 2,
          .head_dim = 8,
          .context_dim = 6,
          .pooled_dim = 6,
          .pos_embed_max = 2};
}

// A small network in float64 with no zero weights.
void fill(Mmdit& net) {
  uint64_t id = 100;
  for (const NamedTensor& p : net.parameters())
    *p.tensor = 0.3 * random_values(id++, p.tensor->sizes()).to(at::kDouble);
}

void check_network(std::vector<CheckResult>& results) {
  Mmdit net(tiny_options());
  fill(net);
  const Conditioning c{random_values(1, {2, 3, 6}).to(at::kDouble),
                       random_values(2, {2, 6}).to(at::kDouble)};
  const Tensor x = random_values(3, {2, 3, 8, 8}).to(at::kDouble),
               dx = random_values(4, {2, 3, 8, 8}).to(at::kDouble);
  const Tensor t = at::tensor({0.3, 1.7}, at::kDouble), dt = at::tensor({0.5, -0.2}, at::kDouble);
  const double h = 1e-6;
  const Tensor numeric =
      (net.forward(x + h * dx, t + h * dt, c) - net.forward(x - h * dx, t - h * dt, c)) / (2 * h);
  const Dual dual = net.forward(Dual{x, dx}, Dual{t, dt}, c);
  results.push_back({"MMDiT directional derivative", relative_error(dual.tangent, numeric), 1e-7});
  const Tensor leaf = x.clone().requires_grad_(true),
               w = random_values(5, {2, 3, 8, 8}).to(at::kDouble);
  const Tensor gradient = torch::autograd::grad({net.forward(leaf, t, c)}, {leaf}, {w})[0];
  const Tensor along = (w * net.forward(Dual{x, dx}, Dual{t, at::zeros_like(t)}, c).tangent).sum();
  results.push_back(
      {"MMDiT <w, J dx> = <J^T w, dx>", relative_error((gradient * dx).sum(), along), 1e-9});
}

}  // namespace

std::vector<CheckResult> self_check() {
  std::vector<CheckResult> results;
  const Tensor x = random_values(1, {2, 33, 40}), y = random_values(2, {2, 33, 40}),
               a = random_values(3, {2, 40}), b = random_values(4, {2, 40});
  for (const auto& [dtype, bound] : {std::pair{at::kFloat, 2e-5}, {at::kBFloat16, 2e-2}}) {
    const auto out = dtype;
    check_fused(
        "attention", [](const auto& v) { return ops::attention(v[0], 2); },
        {random_values(5, {2, 33, 120})}, dtype, bound, results);
    check_fused(
        "GELU", [](const auto& v) { return ops::gelu_tanh(v[0]); }, {x}, dtype, bound, results);
    // The residual stream x stays fp32; only the branch has the type.
    check_fused(
        "gated add",
        [](const auto& v) {
          const bool exact = v[2].scalar_type() == at::kDouble;
          return ops::gated_add(exact ? v[0] : v[0].to(at::kFloat), v[1], v[2]);
        },
        {x, a, y}, dtype, bound, results);
    check_fused(
        "adaLN",
        [out](const auto& v) {
          const bool exact = v[0].scalar_type() == at::kDouble;
          return ops::layer_norm_modulate(exact ? v[0] : v[0].to(at::kFloat), v[1], v[2], 1e-6,
                                          exact ? at::kDouble : out);
        },
        {x, a, b}, dtype, bound, results);
  }
  check_network(results);
  return results;
}

}  // namespace vggflow
