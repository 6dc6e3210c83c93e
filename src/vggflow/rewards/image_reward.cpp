#include "vggflow/rewards/image_reward.h"

#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <array>
#include <iterator>

#include "vggflow/core/error.h"
#include "vggflow/networks/vision/image_preprocess.h"

namespace vggflow {
namespace {

constexpr int64_t kMaxTokens = 35;  // the package's

}  // namespace

// BLIP adds two marks to BERT's vocabulary. ImageReward does not put them before a text, but a
// prompt may hold them.
ImageRewardReward::ImageRewardReward(const RewardResources& resources,
                                     const ImageRewardOptions& options)
    : network_(ImageRewardNetwork::load(resources.at("imagereward", "imagereward"), options)),
      tokenizer_(resources.at("bert-vocab", "imagereward"), {"[DEC]", "[ENC]"}) {
  VGGFLOW_CHECK(tokenizer_.size() == options.text.vocabulary,
                "[imagereward] expected {} tokens in {} and the two that BLIP adds, got {}",
                options.text.vocabulary - 2, resources.at("bert-vocab", "imagereward").string(),
                tokenizer_.size() - 2);
  network_->visual_encoder.recompute = resources.recompute;
}

// The package pads to 35 tokens; the mask makes the length of the longest text do
// (ImageRewardNetwork.PaddingChangesNothing).
TextBatch ImageRewardReward::tokenize(const std::vector<std::string>& prompts) const {
  std::vector<std::vector<int64_t>> rows;
  size_t longest = 0;
  for (const std::string& prompt : prompts) {
    rows.push_back(tokenizer_.ids(prompt, kMaxTokens));
    longest = std::max(longest, rows.back().size());
  }
  const std::array<int64_t, 2> shape{std::ssize(rows), static_cast<int64_t>(longest)};
  TextBatch batch{at::full(shape, tokenizer_.pad_id(), at::kLong), at::zeros(shape, at::kLong)};
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto row = static_cast<int64_t>(i), length = static_cast<int64_t>(rows[i].size());
    batch.ids[row].narrow(0, 0, length).copy_(at::tensor(rows[i]));
    batch.mask[row].narrow(0, 0, length).fill_(1);
  }
  return batch;
}

template <TensorLike T>
T ImageRewardReward::scored(const T& images, const std::vector<std::string>& prompts) const {
  VGGFLOW_CHECK(primal(images).size(0) == std::ssize(prompts),
                "[imagereward] expected one prompt per image, got {} for {}", prompts.size(),
                primal(images).size(0));
  return network_->score(tokenize(prompts), preprocess(images, preprocessing()));
}
template Tensor ImageRewardReward::scored(const Tensor&, const std::vector<std::string>&) const;
template Dual ImageRewardReward::scored(const Dual&, const std::vector<std::string>&) const;

// Its products are fp32 in any case.
RewardCost image_reward_cost(const RewardResources& r) {
  const ImageRewardOptions options;
  return transformer_reward_cost(tower_of(options.vision),
                                 count_parameters<ImageRewardNetwork>(options), at::kFloat,
                                 r.recompute);
}

}  // namespace vggflow
