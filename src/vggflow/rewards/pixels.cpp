#include "vggflow/rewards/pixels.h"

#include <ATen/ATen.h>

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
Tensor to_pixels(const Tensor& x, PixelClamp clamp) {
  const Tensor y = (x + 1) / 2;
  switch (clamp) {
    case PixelClamp::kHard:
      return y.clamp(0, 1);
    case PixelClamp::kStraightThrough:
      return y + (y.clamp(0, 1) - y).detach();
    case PixelClamp::kSoft:
      return soft_clamp(y);
    case PixelClamp::kNone:
      break;
  }
  return y;
}

template <>
Dual to_pixels(const Dual& x, PixelClamp clamp) {
  const Tensor y = to_pixels(x.value, clamp), dy = x.tangent / 2;
  switch (clamp) {
    case PixelClamp::kHard: {
      const Tensor raw = (x.value.detach() + 1) / 2;
      return {y, dy * ((raw >= 0) & (raw <= 1)).to(dy.scalar_type())};
    }
    case PixelClamp::kSoft: {
      const Tensor u = margins_beyond((x.value + 1) / 2);
      return {y, dy * at::pow(1 + u * u, -1.5)};
    }
    case PixelClamp::kStraightThrough:
    case PixelClamp::kNone:
      break;
  }
  return {y, dy};
}

}  // namespace vggflow
