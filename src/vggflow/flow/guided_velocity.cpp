#include "vggflow/flow/guided_velocity.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <utility>
#include <vector>

#include "vggflow/ops/functional.h"

namespace vggflow {

GuidedVelocity::GuidedVelocity(const FlowNetwork& network, Conditioning conditioning,
                               Conditioning unconditional, double guidance,
                               bool detach_unconditional)
    : network_(&network),
      conditioning_(std::move(conditioning)),
      unconditional_(std::move(unconditional)),
      guidance_(guidance),
      detach_unconditional_(detach_unconditional) {}

GuidedVelocity GuidedVelocity::rows(const Tensor& indices) const {
  return {*network_, conditioning_.rows(indices), unconditional_.rows(indices), guidance_,
          detach_unconditional_};
}

GuidedVelocity GuidedVelocity::of(const FlowNetwork& network) const {
  GuidedVelocity other = *this;
  other.network_ = &network;
  return other;
}

Tensor GuidedVelocity::conditional(const Tensor& x, const Tensor& t) const {
  return network_->velocity(x, t, conditioning_);
}

Pair GuidedVelocity::branches(const Tensor& x, const Tensor& t) const {
  if (guidance_ == 1.0) return network_->velocity_pair(x, t, conditioning_);
  return network_->velocity_pair(at::cat({x, x}), at::cat({t, t}),
                                 Conditioning::concat(unconditional_, conditioning_));
}

Tensor GuidedVelocity::mixed(const Tensor& branches) const {
  if (guidance_ == 1.0) return branches;
  const auto parts = branches.chunk(2);
  return parts[0] * (1 - guidance_) + parts[1] * guidance_;
}

Tensor GuidedVelocity::conditional_of(const Tensor& branches) const {
  return guidance_ == 1.0 ? branches : branches.chunk(2)[1];
}

template <TensorLike T>
T GuidedVelocity::operator()(const T& x, const T& t) const {
  if (guidance_ == 1.0) return network_->velocity(x, t, conditioning_);
  if (detach_unconditional_ && at::GradMode::is_enabled()) {
    const auto without_gradient = [&] {
      const at::NoGradGuard off;
      return network_->velocity(x, t, unconditional_);
    };
    return without_gradient() * (1 - guidance_) +
           network_->velocity(x, t, conditioning_) * guidance_;
  }
  const int64_t b = primal(x).size(0);
  const T both =
      network_->velocity(ops::cat(std::vector<T>{x, x}, 0), ops::cat(std::vector<T>{t, t}, 0),
                         Conditioning::concat(unconditional_, conditioning_));
  return ops::narrow(both, 0, 0, b) * (1 - guidance_) + ops::narrow(both, 0, b, b) * guidance_;
}
template Tensor GuidedVelocity::operator()(const Tensor&, const Tensor&) const;
template Dual GuidedVelocity::operator()(const Dual&, const Dual&) const;

}  // namespace vggflow
