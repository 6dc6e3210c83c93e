#include "vggflow/rewards/nima_reward.h"

#include <ATen/ATen.h>

#include "vggflow/core/error.h"
#include "vggflow/ops/resize.h"

namespace vggflow {
namespace {

template <TensorLike T>
T mean_rating(const MobileNet& net, const T& images, int64_t size) {
  const T p =
      ops::softmax(net.logits(ops::resize(images, size, size, ops::Interpolation::kBilinear)), 1);
  return ops::sum(p * at::arange(1, 11, primal(p).options()), {1}, /*keepdim=*/false);
}

std::unique_ptr<Reward> make(const std::string& name, const RewardResources& r) {
  return std::make_unique<NimaReward>(load_nima(r.at(name, name)), r.nima_size);
}

}  // namespace

Tensor NimaReward::score(const Tensor& images, const std::vector<std::string>&) const {
  return mean_rating(*net_, images, size_);
}
Dual NimaReward::score(const Dual& images, const std::vector<std::string>&) const {
  return mean_rating(*net_, images, size_);
}

std::unique_ptr<Reward> make_nima_aesthetic(const RewardResources& resources) {
  return make("nima-aesthetic", resources);
}
std::unique_ptr<Reward> make_nima_technical(const RewardResources& resources) {
  return make("nima-technical", resources);
}

}  // namespace vggflow
