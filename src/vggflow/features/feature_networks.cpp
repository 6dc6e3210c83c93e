#include "vggflow/features/feature_networks.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/core/shipped_files.h"
#include "vggflow/features/clip_features.h"
#include "vggflow/features/nano_features.h"
#include "vggflow/features/pixel_features.h"
#include "vggflow/features/vit_features.h"
#include "vggflow/networks/vision/inception.h"
#include "vggflow/networks/vision/mobilenet.h"
#include "vggflow/ops/resize.h"

namespace vggflow {
namespace {

// A few images at a time: sets are large, and a network's first layers take 5 MB an image.
template <class F>
Tensor in_parts(const Tensor& images, const F& features) {
  constexpr int64_t kImages = 32;
  at::NoGradGuard no_grad;
  std::vector<Tensor> parts;
  for (const Tensor& part : images.split(kImages)) parts.push_back(features(part.to(at::kFloat)));
  return at::cat(parts);
}

/// The features before the classifier of a mobile network, of images stretched to 224 x 224
/// (bilinear, antialiased).
class MobileFeatures : public FeatureNetwork {
 public:
  MobileFeatures(std::string name, std::unique_ptr<MobileNet> net)
      : name_(std::move(name)), net_(std::move(net)) {}
  Tensor features(const Tensor& images) const override {
    constexpr int64_t kSide = 224;
    return in_parts(images, [&](const Tensor& part) {
      return net_->features(ops::resize(part, kSide, kSide, ops::Interpolation::kBilinear));
    });
  }
  std::string name() const override { return name_; }
  std::string weights_hash() const override { return net_->options.hash; }

 private:
  std::string name_;
  std::unique_ptr<MobileNet> net_;
};

class InceptionFeatures : public FeatureNetwork {
 public:
  InceptionFeatures(std::string name, std::unique_ptr<InceptionV3> net)
      : name_(std::move(name)), net_(std::move(net)) {}
  Tensor features(const Tensor& images) const override {
    return in_parts(images, [&](const Tensor& part) { return net_->features(part); });
  }
  std::string name() const override { return name_; }
  std::string weights_hash() const override { return net_->hash; }

 private:
  std::string name_;
  std::unique_ptr<InceptionV3> net_;
};

using Path = const std::filesystem::path&;
using Opener = std::unique_ptr<FeatureNetwork> (*)(Path);
using Made = std::unique_ptr<FeatureNetwork>;

const std::vector<std::pair<std::string, Opener>>& registry() {
  static const std::vector<std::pair<std::string, Opener>> list{
      {"clip", [](Path path) -> Made { return std::make_unique<ClipFeatures>(path); }},
      {"clip-projected",
       [](Path path) -> Made {
         return std::make_unique<ClipFeatures>(path, at::kFloat, /*unit=*/false);
       }},
      {"dino-vitb16", [](Path path) -> Made { return std::make_unique<DinoFeatures>(path); }},
      {"dreamsim", [](Path path) -> Made { return std::make_unique<DreamSimFeatures>(path); }},
      {"efficientnet-lite0",
       [](Path path) -> Made {
         return std::make_unique<MobileFeatures>("efficientnet-lite0",
                                                 load_efficientnet_lite0(path));
       }},
      {"inception-v3",
       [](Path path) -> Made {
         return std::make_unique<InceptionFeatures>("inception-v3", InceptionV3::load(path));
       }},
      {"inception-v3-tf1",
       [](Path path) -> Made {
         return std::make_unique<InceptionFeatures>(
             "inception-v3-tf1", InceptionV3::load(path, InceptionResize::kTensorFlow1));
       }},
      {"mobilenet-v2",
       [](Path path) -> Made {
         return std::make_unique<MobileFeatures>("mobilenet-v2", load_mobilenet_v2(path));
       }},
  };
  return list;
}

}  // namespace

std::vector<std::string> feature_network_names() {
  std::vector<std::string> names;
  for (const auto& [name, open] : registry()) names.push_back(name);
  return names;
}

std::unique_ptr<FeatureNetwork> make_feature_network(const std::string& name,
                                                     const std::filesystem::path& path) {
  for (const auto& [known, open] : registry()) {
    if (known == name) return open(path);
  }
  fail("[features] unknown network '{}'; known are {}", name,
       fmt::join(feature_network_names(), ", "));
}

std::shared_ptr<const FeatureNetwork> open_features(const std::string& name,
                                                    const OwnFeatures& own) {
  if (name == "judge") return std::make_shared<JudgeFeatures>(require_shipped(own.judge, "judge"));
  if (name == "emoji-clip")
    return std::make_shared<EmojiClipFeatures>(require_shipped(own.emoji_clip, "emoji-clip"));
  if (name == PixelFeatures().name()) return std::make_shared<PixelFeatures>();
  const auto known = feature_network_names();
  const size_t equals = name.find('=');
  const std::string network = name.substr(0, equals);
  VGGFLOW_CHECK(
      std::find(known.begin(), known.end(), network) != known.end(),
      "[features] unknown network '{}'; known are judge, emoji-clip, {}, and with a path, {}",
      network, PixelFeatures().name(), fmt::format("{}=PATH", fmt::join(known, "=PATH, ")));
  VGGFLOW_CHECK(equals != std::string::npos,
                "[features] expected the path of {}'s weights: {}=PATH", name, name);
  return make_feature_network(network, name.substr(equals + 1));
}

}  // namespace vggflow
