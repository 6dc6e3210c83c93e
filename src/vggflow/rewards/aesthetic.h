#pragma once
// LAION's improved aesthetic predictor (v2): a head of five linear layers on the unit vector of
// CLIP ViT-L/14, about 1 to 10. The layers have no activation between them (dropout alone, in
// training), so the score is affine in the unit vector. The prompt is ignored.

#include <memory>
#include <string>
#include <vector>

#include "vggflow/networks/clip/clip_encoders.h"
#include "vggflow/rewards/reward.h"

namespace vggflow {

class AestheticReward : public Reward {
 public:
  /// Weights 'clip-vit-l14' and 'aesthetic-head', the file sac+logos+ava1-l14-linearMSE.pth (or its
  /// tensors in safetensors): layers.0, 2, 4, 6, 7.
  explicit AestheticReward(const RewardResources& resources);
  Tensor score(const Tensor& images, const std::vector<std::string>& prompts) const override {
    return head(images_.embed(images));
  }
  Dual score(const Dual& images, const std::vector<std::string>& prompts) const override {
    return head(images_.embed(images));
  }

  std::string describe() const override { return images_.describe() + "; the prompt is ignored"; }

 private:
  template <TensorLike T>
  T head(const T& vectors) const;
  ClipImageEncoder images_;
  std::vector<std::unique_ptr<Linear>> layers_;
};

}  // namespace vggflow
