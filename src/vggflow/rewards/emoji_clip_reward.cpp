#include "vggflow/rewards/emoji_clip_reward.h"

#include <ATen/ATen.h>

#include "vggflow/core/error.h"
#include "vggflow/core/shipped_files.h"

namespace vggflow {

// exp(logit_scale) * unit text vectors (B, E).
Tensor EmojiClipReward::text(const std::vector<std::string>& prompts, at::ScalarType dtype) const {
  std::vector<int64_t> ids;
  for (const std::string& prompt : prompts) {
    const auto row = model_->vocabulary.tokenize(prompt);
    ids.insert(ids.end(), row.begin(), row.end());
  }
  const Tensor table =
      at::tensor(ids).view({static_cast<int64_t>(prompts.size()), model_->vocabulary.max_tokens()});
  return (model_->embed_text(table) * model_->scale()).to(dtype);
}

Tensor EmojiClipReward::score(const Tensor& images, const std::vector<std::string>& prompts) const {
  VGGFLOW_CHECK(images.size(0) == static_cast<int64_t>(prompts.size()),
                "[emoji_clip] expected one prompt per image, got {} for {}", prompts.size(),
                images.size(0));
  return (model_->embed_images(images) * text(prompts, images.scalar_type())).sum(1);
}

Dual EmojiClipReward::score(const Dual& images, const std::vector<std::string>& prompts) const {
  return ops::sum(model_->embed_images(images) * text(prompts, images.value.scalar_type()), {1},
                  /*keepdim=*/false);
}

std::unique_ptr<Reward> make_emoji_clip(const RewardResources& r) {
  return std::make_unique<EmojiClipReward>(require_shipped(r.emoji_clip, "emoji-clip"));
}

// Small: what nano's runs hold in any case (plan.cpp) has it.
RewardCost emoji_clip_cost(const RewardResources&) { return {}; }

}  // namespace vggflow
