#include "vggflow/train/optimizer.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "vggflow/core/error.h"
#include "vggflow/ops/block_functions.h"

namespace vggflow {

ParameterBuffer::ParameterBuffer(const std::vector<NamedTensor>& parameters) {
  int64_t total = 0;
  for (const NamedTensor& p : parameters) total += p.tensor->numel();
  VGGFLOW_CHECK(total > 0, "[optimizer] expected at least one trainable tensor, got none");
  const auto place = at::device(parameters.front().tensor->device()).dtype(at::kFloat);
  values_ = at::empty({total}, place);
  gradient_ = at::zeros({total}, place);
  int64_t offset = 0;
  for (const NamedTensor& p : parameters) {
    const int64_t count = p.tensor->numel();
    Tensor view = values_.narrow(0, offset, count).view(p.tensor->sizes());
    view.copy_(p.tensor->detach());
    *p.tensor = view.detach().requires_grad_(true);
    parameters_.push_back(*p.tensor);
    offset += count;
  }
  accumulate_in(gradient_);
}

void ParameterBuffer::accumulate_in(const Tensor& flat) {
  accumulated_ = flat;
  int64_t offset = 0;
  for (Tensor& p : parameters_) {
    p.mutable_grad() = flat.narrow(0, offset, p.numel()).view(p.sizes());
    offset += p.numel();
  }
}

double ParameterBuffer::gradient_norm() const {
  return at::linalg_vector_norm(gradient_).item<double>();
}

double ParameterBuffer::clip(double max_norm) {
  const double norm = gradient_norm();
  if (max_norm > 0 && norm > max_norm) gradient_.mul_(max_norm / norm);
  return norm;
}

AdamW::AdamW(ParameterBuffer& parameters, const AdamWOptions& options)
    : m(at::zeros_like(parameters.values())),
      v(at::zeros_like(parameters.values())),
      parameters_(parameters),
      options_(options) {}

bool AdamW::step(double lr) { return step(lr, parameters_.gradient_norm()); }

bool AdamW::step(double lr, double gradient_norm) {
  if (!std::isfinite(gradient_norm)) return false;
  ++steps;
  const auto n = static_cast<double>(steps);
  const kernels::AdamWStep s{static_cast<float>(lr),
                             static_cast<float>(options_.beta1),
                             static_cast<float>(options_.beta2),
                             static_cast<float>(options_.eps),
                             static_cast<float>(options_.weight_decay),
                             static_cast<float>(1 - std::pow(options_.beta1, n)),
                             static_cast<float>(1 - std::pow(options_.beta2, n))};
  ops::adamw_step(s, parameters_.gradient(), parameters_.values(), m, v);
  return true;
}

void Ema::update(const ParameterBuffer& parameters) {
  const auto n = static_cast<double>(++updates);
  values.lerp_(parameters.values(), 1 - std::min(decay_, (1 + n) / (10 + n)));
}

ValuesScope::ValuesScope(ParameterBuffer& parameters, const Tensor& values)
    : parameters_(parameters), saved_(parameters.values().clone()) {
  parameters_.values().copy_(values);
}

ValuesScope::~ValuesScope() { parameters_.values().copy_(saved_); }

double cosine_schedule(int64_t update, int64_t warmup, int64_t total, double final_fraction) {
  if (update < warmup) return static_cast<double>(update + 1) / static_cast<double>(warmup);
  const double progress =
      std::min(1.0, static_cast<double>(update - warmup) /
                        static_cast<double>(std::max<int64_t>(1, total - warmup)));
  return final_fraction + (1 - final_fraction) * 0.5 * (1 + std::cos(std::numbers::pi * progress));
}

}  // namespace vggflow
