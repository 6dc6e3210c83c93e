#pragma once
// ImageReward (Xu et al. 2023): how people who compared images for a prompt would rank them, in
// deviations over the authors' set.

#include <memory>
#include <string>
#include <vector>

#include "vggflow/networks/vision/image_preprocess.h"
#include "vggflow/networks/vision/image_reward_network.h"
#include "vggflow/rewards/reward.h"
#include "vggflow/text/wordpiece_tokenizer.h"

namespace vggflow {

class ImageRewardReward : public Reward {
 public:
  /// Weights 'imagereward', the file ImageReward.pt, and 'bert-vocab', the vocab.txt of
  /// bert-base-uncased; they must belong together.
  explicit ImageRewardReward(const RewardResources& resources,
                             const ImageRewardOptions& options = {});
  Tensor score(const Tensor& images, const std::vector<std::string>& prompts) const override {
    return scored(images, prompts);
  }
  Dual score(const Dual& images, const std::vector<std::string>& prompts) const override {
    return scored(images, prompts);
  }
  std::string describe() const override {
    return vggflow::describe(preprocessing()) + "; prompts by BERT's tokens, at most 35";
  }

 private:
  template <TensorLike T>
  T scored(const T& images, const std::vector<std::string>& prompts) const;
  ImagePreprocess preprocessing() const {
    return {.size = network_->options.vision.image, .fit = Fit::kCropTorchvision};
  }
  TextBatch tokenize(const std::vector<std::string>& prompts) const;
  std::unique_ptr<ImageRewardNetwork> network_;
  WordpieceTokenizer tokenizer_;
};

}  // namespace vggflow
