#include "vggflow/testing/gradient_check.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>

#include "vggflow/core/error.h"
#include "vggflow/core/random.h"

namespace vggflow::testing {

Tensor random_double(at::IntArrayRef shape, uint64_t id, double scale) {
  Tensor x = at::empty(shape, at::kDouble);
  RandomStream random({.seed = 11, .purpose = Purpose::kTest, .sample = id});
  double* p = x.mutable_data_ptr<double>();
  for (int64_t i = 0; i < x.numel(); ++i) p[i] = scale * random.normal();
  return x;
}

double relative_error(const Tensor& got, const Tensor& want) {
  const Tensor g = got.detach().to(at::kDouble), w = want.detach().to(at::kDouble);
  if (w.numel() == 0) return 0;
  return (g - w).abs().max().item<double>() / std::max(1.0, w.abs().max().item<double>());
}

double scaled_error(const Tensor& got, const Tensor& want) {
  VGGFLOW_CHECK(got.sizes() == want.sizes(), "[scaled_error] expected shape {}, got {}",
                shape_string(want), shape_string(got));
  const Tensor g = got.detach().to(at::kDouble), w = want.detach().to(at::kDouble);
  const double difference = (g - w).abs().max().item<double>(),
               largest = w.abs().max().item<double>();
  return largest > 0 ? difference / largest : difference;
}

double norm_error(const Tensor& got, const Tensor& want) {
  const Tensor w = want.detach().to(at::kDouble);
  return ((got.detach().to(at::kDouble) - w).norm() / w.norm()).item<double>();
}

double gradient_error(const std::function<Tensor(const std::vector<Tensor>&)>& f,
                      const std::vector<Tensor>& inputs, double h) {
  std::vector<Tensor> leaves;
  for (const Tensor& x : inputs) leaves.push_back(x.detach().clone().requires_grad_(true));
  const Tensor y = f(leaves);
  const Tensor weights = random_double(y.sizes(), 991);
  const auto grads =
      torch::autograd::grad({(y * weights).sum()}, leaves, {}, {}, false, /*allow_unused=*/true);
  double worst = 0;
  for (size_t k = 0; k < inputs.size(); ++k) {
    Tensor numeric = at::zeros_like(inputs[k]);
    for (int64_t i = 0; i < inputs[k].numel(); ++i) {
      const auto shifted = [&](double by) {
        std::vector<Tensor> moved = inputs;
        moved[k] = inputs[k].clone();
        moved[k].view(-1)[i] += by;
        return (f(moved) * weights).sum().item<double>();
      };
      numeric.view(-1)[i] = (shifted(h) - shifted(-h)) / (2 * h);
    }
    const Tensor analytic = grads[k].defined() ? grads[k] : at::zeros_like(inputs[k]);
    worst = std::max(worst, relative_error(analytic, numeric));
  }
  return worst;
}

double tangent_error(const std::function<Tensor(const std::vector<Tensor>&)>& f,
                     const std::function<Dual(const std::vector<Dual>&)>& f_dual,
                     const std::vector<Tensor>& inputs, double h) {
  std::vector<Dual> duals;
  std::vector<Tensor> plus, minus;
  for (size_t k = 0; k < inputs.size(); ++k) {
    const Tensor direction = random_double(inputs[k].sizes(), 500 + k);
    duals.push_back({inputs[k], direction});
    plus.push_back(inputs[k] + h * direction);
    minus.push_back(inputs[k] - h * direction);
  }
  const Dual got = f_dual(duals);
  const Tensor numeric = (f(plus) - f(minus)) / (2 * h);
  return std::max(relative_error(got.value, f(inputs)), relative_error(got.tangent, numeric));
}

}  // namespace vggflow::testing
