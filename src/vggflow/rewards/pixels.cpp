#include "vggflow/rewards/pixels.h"

#include "vggflow/core/error.h"

namespace vggflow {

template <>
Tensor to_pixels(const Tensor& x, const std::string& clamp) {
  const Tensor y = (x + 1) / 2;
  if (clamp == "hard") return y.clamp(0, 1);
  if (clamp == "straight_through") return y + (y.clamp(0, 1) - y).detach();
  VGGFLOW_CHECK(clamp == "none", "[pixels] expected clamp hard, straight_through or none, got '{}'", clamp);
  return y;
}

template <>
Dual to_pixels(const Dual& x, const std::string& clamp) {
  const Tensor y = to_pixels(x.value, clamp);
  const Tensor dy = x.tangent / 2;
  if (clamp != "hard") return {y, dy};
  const Tensor raw = (x.value.detach() + 1) / 2;
  return {y, dy * ((raw >= 0) & (raw <= 1)).to(dy.scalar_type())};
}

}  // namespace vggflow
