#include "vggflow/rewards/pixels.h"

#include <ATen/ATen.h>

#include "vggflow/core/error.h"

namespace vggflow {
namespace {

constexpr double kMargin = 0.05;

// Signed distance beyond [m, 1 - m], in margins; 0 inside.
Tensor margins_beyond(const Tensor& y) { return (y - y.clamp(kMargin, 1 - kMargin)) / kMargin; }

Tensor soft_clamp(const Tensor& y) {
  const Tensor u = margins_beyond(y);
  return y.clamp(kMargin, 1 - kMargin) + kMargin * u * at::rsqrt(1 + u * u);
}

}  // namespace

template <>
Tensor to_pixels(const Tensor& x, const std::string& clamp) {
  const Tensor y = (x + 1) / 2;
  if (clamp == "hard") return y.clamp(0, 1);
  if (clamp == "straight_through") return y + (y.clamp(0, 1) - y).detach();
  if (clamp == "soft") return soft_clamp(y);
  VGGFLOW_CHECK(clamp == "none",
                "[pixels] expected clamp hard, straight_through, soft or none, got '{}'", clamp);
  return y;
}

template <>
Dual to_pixels(const Dual& x, const std::string& clamp) {
  const Tensor y = to_pixels(x.value, clamp);
  const Tensor dy = x.tangent / 2;
  if (clamp == "soft") {
    const Tensor u = margins_beyond((x.value + 1) / 2);
    return {y, dy * at::pow(1 + u * u, -1.5)};
  }
  if (clamp != "hard") return {y, dy};
  const Tensor raw = (x.value.detach() + 1) / 2;
  return {y, dy * ((raw >= 0) & (raw <= 1)).to(dy.scalar_type())};
}

}  // namespace vggflow
