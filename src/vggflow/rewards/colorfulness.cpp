#include "vggflow/rewards/colorfulness.h"

#include <ATen/ATen.h>
#include <utility>

namespace vggflow {
namespace {

constexpr double kEps =
    1e-6;  // of a 0..255 scale squared: keeps the root differentiable on grey images

template <TensorLike T>
T colorfulness(const T& images) {
  const int64_t b = primal(images).size(0);
  const T pixels = ops::reshape(images, {b, 3, -1}) * 255.0;
  const auto channel = [&](int64_t c) {
    return ops::reshape(ops::narrow(pixels, 1, c, 1), {b, -1});
  };
  const T red = channel(0), green = channel(1), blue = channel(2);
  const T rg = red - green, yb = (red + green) * 0.5 - blue;
  const auto moments = [](const T& x) {
    const T mean = ops::mean(x, {1}, /*keepdim=*/false);
    return std::pair{mean, ops::mean(ops::square(x), {1}, /*keepdim=*/false) - ops::square(mean)};
  };
  const auto [mean_rg, var_rg] = moments(rg);
  const auto [mean_yb, var_yb] = moments(yb);
  return ops::safe_sqrt(var_rg + var_yb, kEps) +
         ops::safe_sqrt(ops::square(mean_rg) + ops::square(mean_yb), kEps) * 0.3;
}

}  // namespace

Tensor ColorfulnessReward::score(const Tensor& images, const std::vector<std::string>&) const {
  return colorfulness(images);
}
Dual ColorfulnessReward::score(const Dual& images, const std::vector<std::string>&) const {
  return colorfulness(images);
}

std::unique_ptr<Reward> make_colorfulness(const RewardResources&) {
  return std::make_unique<ColorfulnessReward>();
}

// A few sums over pixels: their differences are kept.
RewardCost colorfulness_cost(const RewardResources&) { return {.pixels = 3}; }

}  // namespace vggflow
