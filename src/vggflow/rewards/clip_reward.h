#pragma once
// Rewards that are a scaled cosine of CLIP:  r(image, prompt) = scale <e(image), e(prompt)>  with
// unit vectors e.
//   hpsv2.1     scale 1                 ViT-H/14 of open_clip; what hpsv2.score() gives, about 0.28
//   (its benchmark tables print 100 times that) pickscore   scale exp(logit_scale)  ViT-H/14 of
//   transformers, about 100; scores of about 20 clip-score  scale 100               torchmetrics'
//   CLIPScore of one image, about 30; like it, without the clip at 0 that it puts on means
// docs/rewards.md has sources, preprocessing and the names of the weights.

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "vggflow/networks/clip/clip_encoders.h"
#include "vggflow/rewards/reward.h"

namespace vggflow {

class ClipReward : public Reward {
 public:
  /// `name` for errors; images are fitted to the tower's size by `fit`.
  struct Options {
    std::string name;
    double scale = 1;
    Fit fit = Fit::kCropTorchvision;
    at::ScalarType dtype = at::kFloat;
    bool recompute = false;
  };
  ClipReward(const ClipCheckpoint& checkpoint, const std::filesystem::path& tokenizer,
             const Options& options);
  Tensor score(const Tensor& images, const std::vector<std::string>& prompts) const override;
  Dual score(const Dual& images, const std::vector<std::string>& prompts) const override;
  std::string describe() const override {
    return images_.describe() + "; prompts by CLIP's tokens";
  }

 private:
  template <TensorLike T>
  T scaled_cosine(const T& images, const std::vector<std::string>& prompts) const;
  Options options_;
  ClipImageEncoder images_;
  ClipTextEncoder text_;
};

std::unique_ptr<Reward> make_hpsv2(const RewardResources& resources);      ///< weights 'hpsv2.1'
std::unique_ptr<Reward> make_pickscore(const RewardResources& resources);  ///< weights 'pickscore'
std::unique_ptr<Reward> make_clip_score(
    const RewardResources& resources);  ///< weights 'clip-vit-l14'

}  // namespace vggflow
