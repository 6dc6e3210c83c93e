#include "vggflow/families/sd3/flow_model.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <utility>

#include "vggflow/device/device.h"

namespace vggflow {

at::ScalarType fast_dtype() { return fast_dtype(current_device()); }

at::ScalarType precision_dtype(const std::string& precision) {
  return precision == "bf16" ? at::kBFloat16 : precision == "fp32" ? at::kFloat : fast_dtype();
}

GuidedVelocity::GuidedVelocity(const Mmdit& network, Conditioning conditioning,
                               Conditioning unconditional, double guidance,
                               bool detach_unconditional)
    : network_(network),
      conditioning_(std::move(conditioning)),
      unconditional_(std::move(unconditional)),
      guidance_(guidance),
      detach_unconditional_(detach_unconditional) {}

GuidedVelocity GuidedVelocity::rows(const Tensor& indices) const {
  const auto pick = [&](const Conditioning& c) -> Conditioning {
    return {c.context.index_select(0, indices), c.pooled.index_select(0, indices)};
  };
  return {network_, pick(conditioning_), pick(unconditional_), guidance_, detach_unconditional_};
}

namespace {

Tensor timestep_of(const Tensor& t) { return (1 - t) * 1000; }
Dual timestep_of(const Dual& t) { return {(1 - t.value) * 1000, t.tangent * -1000}; }
Tensor negate(const Tensor& u) { return -u; }
Dual negate(const Dual& u) { return {-u.value, -u.tangent}; }

}  // namespace

Tensor GuidedVelocity::conditional(const Tensor& x, const Tensor& t) const {
  return -network_.forward(x, timestep_of(t), conditioning_);
}

template <TensorLike T>
T GuidedVelocity::operator()(const T& x, const T& t) const {
  const T timestep = timestep_of(t);
  if (guidance_ == 1.0) return negate(network_.forward(x, timestep, conditioning_));
  const int64_t b = primal(x).size(0);
  if (detach_unconditional_ && at::GradMode::is_enabled()) {
    const auto without_gradient = [&] {
      at::NoGradGuard no_grad;
      return network_.forward(x, timestep, unconditional_);
    };
    return negate(without_gradient() * (1 - guidance_) +
                  network_.forward(x, timestep, conditioning_) * guidance_);
  }
  const T both = network_.forward(ops::cat(std::vector<T>{x, x}, 0),
                                  ops::cat(std::vector<T>{timestep, timestep}, 0),
                                  Conditioning::concat(unconditional_, conditioning_));
  return negate(ops::narrow(both, 0, 0, b) * (1 - guidance_) +
                ops::narrow(both, 0, b, b) * guidance_);
}
template Tensor GuidedVelocity::operator()(const Tensor&, const Tensor&) const;
template Dual GuidedVelocity::operator()(const Dual&, const Dual&) const;

}  // namespace vggflow
