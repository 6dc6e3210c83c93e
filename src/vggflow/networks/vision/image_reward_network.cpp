#include "vggflow/networks/vision/image_reward_network.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "vggflow/core/error.h"
#include "vggflow/io/model_files.h"

namespace vggflow {
namespace {

constexpr double kMean = 0.16717362830052426, kDeviation = 1.0333394966054072;

}  // namespace

ImageRewardNetwork::ImageRewardNetwork(const ImageRewardOptions& o)
    : options(o), visual_encoder(o.vision), text_encoder(o.text) {
  VGGFLOW_CHECK(
      o.text.image_width == o.vision.width,
      "[image_reward] expected a text encoder for image tokens of width {}, got one for {}",
      o.vision.width, o.text.image_width);
  add("blip.visual_encoder", visual_encoder);
  add("blip.text_encoder", text_encoder);
  std::vector<int64_t> widths{o.text.width};
  widths.insert(widths.end(), o.mlp.begin(), o.mlp.end());
  widths.push_back(1);
  constexpr size_t kDropouts =
      3;  // the first layers have one behind them, which takes a place in the checkpoint's count
  for (size_t i = 0; i + 1 < widths.size(); ++i) {
    mlp.push_back(std::make_unique<Linear>(widths[i], widths[i + 1]));
    add(fmt::format("mlp.layers.{}", i + std::min(i, kDropouts)), *mlp.back());
  }
}

std::unique_ptr<ImageRewardNetwork> ImageRewardNetwork::load(const std::filesystem::path& file,
                                                             const ImageRewardOptions& options) {
  auto network = std::make_unique<ImageRewardNetwork>(options);
  const TensorMap all = open_weights(file);
  TensorMap used;
  TensorList targets;
  for (const NamedTensor& p : network->parameters()) {
    targets.emplace_back(p.name, *p.tensor);
    if (const auto found = all.find(p.name); found != all.end()) used.insert(*found);
  }
  load_into(used, "[image_reward] " + file.string(), targets);
  return network;
}

template <TensorLike T>
T ImageRewardNetwork::score(const TextBatch& text, const T& images) const {
  T x = ops::narrow(text_encoder.forward(text, visual_encoder.forward(images)), 1, 0,
                    1);  // (B, 1, D)
  for (const auto& layer : mlp)
    x = layer->forward(x);  // the package has no activation between them
  return ops::reshape((x - kMean) * (1 / kDeviation), {primal(x).size(0)});
}
template Tensor ImageRewardNetwork::score(const TextBatch&, const Tensor&) const;
template Dual ImageRewardNetwork::score(const TextBatch&, const Dual&) const;

}  // namespace vggflow
