#include "vggflow/networks/vision/class_head.h"

#include <optional>
#include <utility>

#include "vggflow/core/config.h"
#include "vggflow/core/error.h"
#include "vggflow/core/shipped_files.h"
#include "vggflow/networks/model_folder.h"
#include "vggflow/networks/vision/judge.h"
#include "vggflow/ops/resize.h"

namespace vggflow {
namespace {

constexpr const char *kTarget = "vggflow.target", *kClassHead = "class-head";

}  // namespace

MobileNetOptions head_network_options(HeadNetwork network) {
  switch (network) {
    case HeadNetwork::kEfficientnetLite0:
      return efficientnet_lite0_options();
    case HeadNetwork::kMobilenetV2:
      return mobilenet_v2_options(1001);
  }
  fail("[class-head] expected a known network, got {}", static_cast<int>(network));
}

std::unique_ptr<MobileNet> load_head_network(HeadNetwork network,
                                             const std::filesystem::path& file) {
  switch (network) {
    case HeadNetwork::kEfficientnetLite0:
      return load_efficientnet_lite0(file);
    case HeadNetwork::kMobilenetV2:
      return load_mobilenet_v2(file);
  }
  fail("[class-head] expected a known network, got {}", static_cast<int>(network));
}

ClassHead::ClassHead(const ClassHeadOptions& o, std::unique_ptr<MobileNet> net)
    : options(o),
      network(std::move(net)),
      head(network->classifier.in, static_cast<int64_t>(o.classes.size())) {
  add("head", head);
}

std::unique_ptr<ClassHead> ClassHead::load(const std::filesystem::path& folder,
                                           const FindWeights& find) {
  ClassHeadOptions options;
  load_yaml(fields_of(options), folder / "config.yaml");
  const auto file = find(word_of(options.network));
  auto network = load_head_network(options.network, file);
  VGGFLOW_CHECK(network->options.hash == options.network_hash,
                "[class-head] {} was trained on {} weights with the hash {}, but {} has {}",
                folder.string(), word_of(options.network), options.network_hash, file.string(),
                network->options.hash);
  auto model = std::make_unique<ClassHead>(options, std::move(network));
  load_weights(*model, folder);
  return model;
}

void ClassHead::save(const std::filesystem::path& folder,
                     std::map<std::string, std::string> metadata) {
  metadata[kTarget] = kClassHead;
  save_model(*this, fields_of(options), std::nullopt, folder, metadata, at::kFloat);
}

template <TensorLike T>
T ClassHead::features(const T& images) const {
  return network->features(
      ops::resize(images, options.size, options.size, ops::Interpolation::kBilinear));
}
template Tensor ClassHead::features(const Tensor&) const;
template Dual ClassHead::features(const Dual&) const;

Judgement ClassHead::forward(const Tensor& images) const {
  const Tensor f = features(images);
  return {f, head.forward(f)};
}

std::unique_ptr<ImageJudge> open_judge(const std::filesystem::path& place,
                                       const FindWeights& find) {
  const std::filesystem::path folder = require_shipped(place, "judge");
  const SafetensorsFile file(folder / "model.safetensors");
  const auto target = file.metadata().find(kTarget);
  if (target != file.metadata().end() && target->second == kClassHead)
    return ClassHead::load(folder, find);
  return Judge::load(folder);
}

}  // namespace vggflow
