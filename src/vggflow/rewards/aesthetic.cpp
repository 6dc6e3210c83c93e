#include "vggflow/rewards/aesthetic.h"

#include <fmt/format.h>

#include <filesystem>

#include "vggflow/core/error.h"
#include "vggflow/io/model_files.h"

namespace vggflow {
namespace {

ClipImageEncoder make_tower(const RewardResources& resources) {
  return {
      read_clip_checkpoint(resources.at("clip-vit-l14", "aesthetic"), ClipActivation::kQuickGelu),
      resources.dtype};
}

std::vector<std::unique_ptr<Linear>> read_head(const std::filesystem::path& file, int64_t width) {
  const TensorMap tensors = open_weights(file);
  TensorList targets;
  std::vector<std::unique_ptr<Linear>> layers;
  for (const int place : {0, 2, 4, 6, 7}) {
    const auto weight = tensors.find(fmt::format("layers.{}.weight", place));
    VGGFLOW_CHECK(weight != tensors.end() && weight->second.dim() == 2,
                  "[aesthetic] expected 'layers.{}.weight' of two dimensions in {}", place,
                  file.string());
    layers.push_back(std::make_unique<Linear>(weight->second.size(1), weight->second.size(0)));
    targets.emplace_back(fmt::format("layers.{}.weight", place), layers.back()->weight);
    targets.emplace_back(fmt::format("layers.{}.bias", place), layers.back()->bias);
  }
  load_into(tensors, file.string(), targets);
  VGGFLOW_CHECK(
      layers.front()->in == width && layers.back()->out == 1,
      "[aesthetic] expected a head from the tower's {} numbers to one in {}, got one from {} to {}",
      width, file.string(), layers.front()->in, layers.back()->out);
  return layers;
}

}  // namespace

AestheticReward::AestheticReward(const RewardResources& resources)
    : images_(make_tower(resources)),
      layers_(
          read_head(resources.at("aesthetic-head", "aesthetic"), images_.options().projection)) {
  images_.set_recompute(resources.recompute);
}

template <TensorLike T>
T AestheticReward::head(const T& vectors) const {
  T x = vectors;
  for (const auto& layer : layers_) x = layer->forward(x);
  return ops::reshape(x, {-1});
}
template Tensor AestheticReward::head(const Tensor&) const;
template Dual AestheticReward::head(const Dual&) const;

// ViT-L/14's image tower, and five layers on its 768 numbers.
RewardCost aesthetic_cost(const RewardResources& r) {
  const ClipVisionOptions& large = clip_vision_preset("clip-vit-l14");
  double parameters = count_parameters<ClipVisionModel>(large);
  int64_t in = large.projection;
  for (const int64_t out : {1024, 128, 64, 16, 1}) {
    parameters += static_cast<double>((in + 1) * out);
    in = out;
  }
  return transformer_reward_cost(tower_of(large), parameters, r.dtype, r.recompute);
}

}  // namespace vggflow
