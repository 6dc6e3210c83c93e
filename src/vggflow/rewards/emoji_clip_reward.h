#pragma once
// The reward of the nano model: emoji-clip's scaled cosine exp(logit_scale) <image, text>, as
// PickScore and HPSv2 score.

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "vggflow/networks/model_folder.h"
#include "vggflow/networks/vision/emoji_clip.h"
#include "vggflow/rewards/reward.h"

namespace vggflow {

class EmojiClipReward : public Reward {
 public:
  explicit EmojiClipReward(const std::filesystem::path& folder) : model_(EmojiClip::load(folder)) {}
  Tensor score(const Tensor& images, const std::vector<std::string>& prompts) const override;
  Dual score(const Dual& images, const std::vector<std::string>& prompts) const override;
  std::string describe() const override {
    return "pixels at their own size (trained at 32x32), as 2 (x - 1); words of its vocabulary";
  }
  std::string weights_hash() const override { return vggflow::weights_hash(*model_); }

 private:
  Tensor text(const std::vector<std::string>& prompts, at::ScalarType dtype) const;
  std::unique_ptr<EmojiClip> model_;
};

}  // namespace vggflow
