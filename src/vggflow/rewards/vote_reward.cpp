#include "vggflow/rewards/vote_reward.h"

#include <filesystem>

#include "vggflow/core/config.h"
#include "vggflow/core/shipped_files.h"

namespace vggflow {

std::unique_ptr<Reward> make_vote_head(const RewardResources& r) {
  return std::make_unique<VoteReward>(
      VoteHead::load(r.at("vote-head", "vote-head"), [&](const std::string& name) {
        return name == word_of(VoteNetwork::kEmojiClip)
                   ? require_shipped(r.emoji_clip, name.c_str())
                   : r.at(name, "vote-head");
      }));
}

RewardCost vote_head_cost(const RewardResources& r) {
  VoteHeadOptions o;
  const auto folder = r.weights.find("vote-head");
  if (folder != r.weights.end() && std::filesystem::exists(folder->second / "config.yaml"))
    load_yaml(fields_of(o), folder->second / "config.yaml");
  if (o.network == VoteNetwork::kEmojiClip) return {};  // small, as emoji-clip itself
  const ClipVisionOptions& large = clip_vision_preset("clip-vit-l14");
  return transformer_reward_cost(tower_of(large), count_parameters<ClipVisionModel>(large),
                                 at::kFloat, /*recompute=*/false);
}

}  // namespace vggflow
