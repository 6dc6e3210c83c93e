#pragma once
// `vote-head`: a taste learned from votes between two images (networks/vision/vote_head.h), which
// `vggflow pretrain target=vote-head` wrote. The prompt is ignored.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "vggflow/networks/vision/vote_head.h"
#include "vggflow/rewards/reward.h"

namespace vggflow {

class VoteReward : public Reward {
 public:
  explicit VoteReward(std::unique_ptr<VoteHead> head) : head_(std::move(head)) {}
  Tensor score(const Tensor& images, const std::vector<std::string>& prompts) const override {
    return head_->score(images);
  }
  Dual score(const Dual& images, const std::vector<std::string>& prompts) const override {
    return head_->score(images);
  }
  std::string describe() const override {
    return "votes on " + word_of(head_->options.network) + "'s vectors; the prompt is ignored";
  }

 private:
  std::unique_ptr<VoteHead> head_;
};

std::unique_ptr<Reward> make_vote_head(
    const RewardResources& resources);  ///< weights 'vote-head', a folder, and its network's
/// By the head's own configuration where its folder is there, else by the defaults.
RewardCost vote_head_cost(const RewardResources& resources);

}  // namespace vggflow
