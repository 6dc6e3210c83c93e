#include "vggflow/rewards/clip_reward.h"

#include <ATen/ATen.h>

#include "vggflow/core/error.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;

// The tokenizer beside the weights, as the hub has it, or the one given for all.
fs::path tokenizer_of(const ClipCheckpoint& checkpoint, const RewardResources& resources,
                      const std::string& reward) {
  const bool beside = fs::exists(checkpoint.folder / "vocab.json") ||
                      fs::exists(checkpoint.folder / "tokenizer.json");
  return beside ? checkpoint.folder : resources.at("clip-tokenizer", reward);
}

std::unique_ptr<Reward> make(const ClipCheckpoint& checkpoint, const RewardResources& resources,
                             ClipReward::Options options) {
  options.dtype = resources.dtype;
  options.recompute = resources.recompute;
  return std::make_unique<ClipReward>(checkpoint, tokenizer_of(checkpoint, resources, options.name),
                                      options);
}

}  // namespace

ClipReward::ClipReward(const ClipCheckpoint& checkpoint, const fs::path& tokenizer,
                       const Options& options)
    : options_(options),
      images_(checkpoint, options.dtype, options.fit),
      text_(checkpoint, tokenizer, options.dtype) {
  images_.set_recompute(options.recompute);
}

template <TensorLike T>
T ClipReward::scaled_cosine(const T& images, const std::vector<std::string>& prompts) const {
  const Tensor& x = primal(images);
  VGGFLOW_CHECK(x.size(0) == static_cast<int64_t>(prompts.size()),
                "[{}] expected one prompt per image, got {} for {}", options_.name, prompts.size(),
                x.size(0));
  const Tensor text = text_.embed(prompts).to(x.options());
  return ops::sum(images_.embed(images) * (text * options_.scale), {1}, /*keepdim=*/false);
}

Tensor ClipReward::score(const Tensor& images, const std::vector<std::string>& prompts) const {
  return scaled_cosine(images, prompts);
}
Dual ClipReward::score(const Dual& images, const std::vector<std::string>& prompts) const {
  return scaled_cosine(images, prompts);
}

std::unique_ptr<Reward> make_hpsv2(const RewardResources& resources) {
  return make(read_clip_checkpoint(resources.at("hpsv2.1", "hpsv2.1"), ClipActivation::kGelu),
              resources, {.name = "hpsv2.1", .scale = 1, .fit = Fit::kPad});
}

std::unique_ptr<Reward> make_pickscore(const RewardResources& resources) {
  const ClipCheckpoint checkpoint =
      read_clip_checkpoint(resources.at("pickscore", "pickscore"), ClipActivation::kGelu);
  return make(
      checkpoint, resources,
      {.name = "pickscore", .scale = clip_logit_scale(checkpoint), .fit = Fit::kCropTransformers});
}

std::unique_ptr<Reward> make_clip_score(const RewardResources& resources) {
  return make(
      read_clip_checkpoint(resources.at("clip-vit-l14", "clip-score"), ClipActivation::kQuickGelu),
      resources, {.name = "clip-score", .scale = 100, .fit = Fit::kCropTransformers});
}

namespace {

RewardCost cost_of(const ClipVisionOptions& vision, const ClipTextOptions& text,
                   const RewardResources& r) {
  return transformer_reward_cost(
      tower_of(vision),
      count_parameters<ClipVisionModel>(vision) + count_parameters<ClipTextModel>(text), r.dtype,
      r.recompute);
}

}  // namespace

RewardCost clip_huge_cost(const RewardResources& r) {
  return cost_of(clip_vision_preset("clip-vit-h14"),
                 {.width = 1024, .mlp_width = 4096, .layers = 24, .heads = 16, .projection = 1024},
                 r);
}

RewardCost clip_score_cost(const RewardResources& r) {
  return cost_of(clip_vision_preset("clip-vit-l14"), {}, r);
}

}  // namespace vggflow
