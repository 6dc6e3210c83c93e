#include "vggflow/nn/module.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linear.h>

#include <cmath>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/device/device.h"
#include "vggflow/ops/block_functions.h"
#include "vggflow/ops/cast_linear.h"

namespace vggflow {
namespace {

std::string join(const std::string& prefix, const std::string& name) {
  return prefix.empty() ? name : prefix + "." + name;
}

void fill_uniform(Tensor& x, double bound, RandomStream& random) {
  fill_on_host(x, [&](std::span<float> values) {
    for (float& v : values) v = static_cast<float>((2 * random.uniform() - 1) * bound);
  });
}

thread_local int shapes_only = 0;  // how many ShapesOnly live

}  // namespace

ShapesOnly::ShapesOnly() { ++shapes_only; }
ShapesOnly::~ShapesOnly() { --shapes_only; }

Tensor new_parameter(at::IntArrayRef shape, double value) {
  return shapes_only > 0 ? at::empty(shape, at::device(at::kMeta))
                         : at::full(shape, value, at::device(current_device()).dtype(at::kFloat));
}

void fill_on_host(Tensor& x, const std::function<void(std::span<float>)>& draw) {
  const at::NoGradGuard no_graph;
  Tensor host = x.is_cpu() ? x : at::empty(x.sizes(), at::kFloat);
  draw({host.mutable_data_ptr<float>(), static_cast<size_t>(host.numel())});
  if (!x.is_cpu()) x.copy_(host);
}

void Module::add(std::string name, Tensor& parameter) {
  tensors_.emplace_back(std::move(name), &parameter);
}
void Module::add(std::string name, Module& child) {
  children_.emplace_back(std::move(name), &child);
}

std::vector<NamedTensor> Module::parameters(const std::string& prefix) const {
  std::vector<NamedTensor> all;
  for (const auto& [name, tensor] : tensors_) all.push_back({join(prefix, name), tensor});
  for (const auto& [name, child] : children_) {
    for (NamedTensor& p : child->parameters(join(prefix, name))) all.push_back(std::move(p));
  }
  return all;
}

std::vector<std::pair<std::string, Module*>> Module::modules(const std::string& prefix) {
  std::vector<std::pair<std::string, Module*>> all{{prefix, this}};
  for (const auto& [name, child] : children_) {
    for (auto& m : child->modules(join(prefix, name))) all.push_back(std::move(m));
  }
  return all;
}

std::vector<std::pair<std::string, const Module*>> Module::modules(
    const std::string& prefix) const {
  std::vector<std::pair<std::string, const Module*>> all{{prefix, this}};
  for (const auto& [name, child] : children_) {
    for (auto& m : std::as_const(*child).modules(join(prefix, name))) all.push_back(std::move(m));
  }
  return all;
}

int64_t Module::parameter_count() const {
  int64_t count = 0;
  for (const NamedTensor& p : parameters()) count += p.tensor->numel();
  return count;
}

void Module::set_requires_grad(bool on) {
  for (const NamedTensor& p : parameters()) p.tensor->requires_grad_(on);
}

void Module::to(at::ScalarType dtype) {
  for (const NamedTensor& p : parameters()) *p.tensor = p.tensor->detach().to(dtype);
}

void Module::to(at::Device device) {
  for (const NamedTensor& p : parameters())
    *p.tensor = p.tensor->detach().to(device).requires_grad_(p.tensor->requires_grad());
}

Linear::Linear(int64_t in_features, int64_t out_features, bool with_bias)
    : in(in_features), out(out_features), weight(new_parameter({out, in})) {
  add("weight", weight);
  if (with_bias) {
    bias = new_parameter({out});
    add("bias", bias);
  }
}

template <TensorLike T>
T Linear::forward(const T& x) const {
  const auto dtype = primal(x).scalar_type();
  VGGFLOW_CHECK(primal(x).size(-1) == in, "[linear] expected x (..., {}), got {}", in,
                shape_string(primal(x)));
  const T y = ops::cast_linear(x, weight, bias);
  if (!lora.a.defined()) return y;
  return ops::lora_up(y, ops::linear(x, lora.a.to(dtype), Tensor()), lora.b, lora.scale);
}
template Tensor Linear::forward(const Tensor&) const;
template Dual Linear::forward(const Dual&) const;

void Linear::init(RandomStream& random) {
  const double bound = 1 / std::sqrt(static_cast<double>(in));
  fill_uniform(weight, bound, random);
  if (bias.defined()) fill_uniform(bias, bound, random);
}

void Linear::init_zero() {
  weight.zero_();
  if (bias.defined()) bias.zero_();
}

Conv2d::Conv2d(int64_t in_channels, int64_t out_channels, int64_t kernel_size, int64_t stride_,
               int64_t padding_, int64_t groups_, bool with_bias)
    : in(in_channels),
      out(out_channels),
      kernel(kernel_size),
      stride(stride_),
      padding(padding_),
      groups(groups_),
      weight(new_parameter({out, in / groups, kernel, kernel})) {
  add("weight", weight);
  if (with_bias) {
    bias = new_parameter({out});
    add("bias", bias);
  }
}

template <TensorLike T>
T Conv2d::forward(const T& x) const {
  const auto dtype = primal(x).scalar_type();
  VGGFLOW_CHECK(primal(x).dim() == 4 && primal(x).size(1) == in,
                "[conv2d] expected x (B, {}, H, W), got {}", in, shape_string(primal(x)));
  return ops::conv2d(x, weight.to(dtype), ops::cast(bias, dtype), stride, padding, groups);
}
template Tensor Conv2d::forward(const Tensor&) const;
template Dual Conv2d::forward(const Dual&) const;

void Conv2d::init(RandomStream& random) {
  const double bound = 1 / std::sqrt(static_cast<double>(in / groups * kernel * kernel));
  fill_uniform(weight, bound, random);
  if (bias.defined()) fill_uniform(bias, bound, random);
}

void Conv2d::init_zero() {
  weight.zero_();
  if (bias.defined()) bias.zero_();
}

LayerNorm::LayerNorm(int64_t width, double eps_)
    : eps(eps_), weight(new_parameter({width}, 1)), bias(new_parameter({width})) {
  add("weight", weight);
  add("bias", bias);
}

GroupNorm::GroupNorm(int64_t groups_, int64_t channels, double eps_)
    : groups(groups_),
      eps(eps_),
      weight(new_parameter({channels}, 1)),
      bias(new_parameter({channels})) {
  VGGFLOW_CHECK(channels % groups == 0,
                "[group_norm] expected channels a multiple of {} groups, got {}", groups, channels);
  add("weight", weight);
  add("bias", bias);
}

RmsNorm::RmsNorm(int64_t width, double eps_) : eps(eps_), weight(new_parameter({width}, 1)) {
  add("weight", weight);
}

}  // namespace vggflow
