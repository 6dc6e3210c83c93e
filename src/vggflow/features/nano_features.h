#pragma once
// The nano model's own image networks as features of sets of images: the judge, which no reward
// knows, and emoji-clip's image tower.

#include <filesystem>
#include <memory>
#include <string>

#include "vggflow/features/feature_network.h"
#include "vggflow/networks/vision/emoji_clip.h"
#include "vggflow/networks/vision/judge.h"

namespace vggflow {

/// The judge's pooled features; images of another size are resized to the judge's (bicubic,
/// antialiased).
class JudgeFeatures : public FeatureNetwork {
 public:
  explicit JudgeFeatures(const std::filesystem::path& folder);
  Tensor features(const Tensor& images) const override;
  std::string name() const override { return "judge"; }
  std::string weights_hash() const override { return hash_; }

 private:
  std::unique_ptr<Judge> judge_;
  std::string hash_;
};

/// emoji-clip's unit image vectors, of images resized to 32 x 32.
class EmojiClipFeatures : public FeatureNetwork {
 public:
  explicit EmojiClipFeatures(const std::filesystem::path& folder);
  Tensor features(const Tensor& images) const override;
  std::string name() const override { return "emoji-clip"; }
  std::string weights_hash() const override { return hash_; }

 private:
  std::unique_ptr<EmojiClip> clip_;
  std::string hash_;
};

}  // namespace vggflow
