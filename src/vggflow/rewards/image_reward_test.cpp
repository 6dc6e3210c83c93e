// The reward imagereward from prompts and images in [0, 1] to scores, against the image-reward
// package on random weights: values from tools/reference/image_reward_reference.py.
#include "vggflow/rewards/image_reward.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <filesystem>
#include <sstream>

#include "vggflow/core/error.h"
#include "vggflow/io/safetensors.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/reference.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;
using testing::message_of;
using testing::random_double;
using testing::relative_error;
using testing::tangent_error;

const std::filesystem::path kFolder = testing::models_testdata("image_reward");

Tensor get(const std::string& name) {
  return SafetensorsFile(kFolder / "reference.safetensors").load(name);
}

RewardResources resources() {
  return {.emoji_clip = {},
          .weights = {{"imagereward", kFolder / "ImageReward.pt"},
                      {"bert-vocab", kFolder / "vocab.txt"}}};
}

ImageRewardOptions tiny_options() {
  return {.vision = {.image = 32, .patch = 8, .width = 16, .layers = 2, .heads = 4},
          .text = {.vocabulary = 31,
                   .width = 24,
                   .mlp_width = 40,
                   .layers = 2,
                   .heads = 3,
                   .positions = 40,
                   .image_width = 16},
          .mlp = {12, 10, 8, 6}};
}

std::vector<std::string> prompts() {
  const Tensor bytes = get("prompts");
  std::istringstream in(std::string(reinterpret_cast<const char*>(bytes.const_data_ptr<uint8_t>()),
                                    static_cast<size_t>(bytes.numel())));
  std::vector<std::string> all;
  for (std::string prompt; std::getline(in, prompt, '\0');) all.push_back(prompt);
  return all;
}

// What the standardised images of the reference were before: of the network's size, so that
// resizing leaves them as they are.
Tensor images() {
  const auto channels = [](std::vector<float> v) { return at::tensor(v).view({1, 3, 1, 1}); };
  return get("images") * channels({0.26862954f, 0.26130258f, 0.27577711f}) +
         channels({0.48145466f, 0.4578275f, 0.40821073f});
}

TEST(ImageReward, ScoresPromptsAndImagesAsThePackageDoes) {
  ASSERT_EQ(prompts().size(), 4u);
  const ImageRewardReward reward(resources(), tiny_options());
  EXPECT_LT(relative_error(reward.score(images(), prompts()), get("scores")), 1e-5);
}

TEST(ImageReward, DerivativesEqualCentralDifferences) {
  const ImageRewardReward reward(resources(), tiny_options());
  const Tensor x = at::sigmoid(random_double({4, 3, 40, 48}, 1)), d = random_double(x.sizes(), 2);
  EXPECT_LT(
      tangent_error([&](const std::vector<Tensor>& v) { return reward.score(v[0], prompts()); },
                    [&](const std::vector<Dual>& v) { return reward.score(v[0], prompts()); }, {x}),
      1e-7);
  const RewardGradient at_x = reward_gradient(reward, x, prompts());
  const double h = 1e-5,
               along = ((reward.score(x + h * d, prompts()) - reward.score(x - h * d, prompts())) /
                        (2 * h))
                           .sum()
                           .item<double>();
  EXPECT_NEAR((at_x.gradient * d).sum().item<double>(), along, 1e-6 * std::abs(along));
  const auto gradient = [&](double step) {
    return reward_gradient(reward, x + step * d, prompts()).gradient;
  };
  const Tensor want = (gradient(h) - gradient(-h)) / (2 * h);
  EXPECT_LT(relative_error(reward_hessian_product(reward, x, d, prompts()), want), 1e-5);
}

TEST(ImageReward, APromptDoesNotSeeItsNeighbours) {
  const ImageRewardReward reward(resources(), tiny_options());
  const Tensor all = reward.score(images(), prompts());
  for (int64_t i = 0; i < 4; ++i) {
    EXPECT_LT(
        relative_error(reward.score(images().narrow(0, i, 1), {prompts()[static_cast<size_t>(i)]}),
                       all.narrow(0, i, 1)),
        1e-5)
        << i;
  }
}

TEST(ImageReward, TheTowersBlocksRunAgainWhereAskedTo) {
  RewardResources again = resources();
  again.recompute = true;
  const ImageRewardReward kept(resources(), tiny_options()), run_again(again, tiny_options());
  const Tensor x = images(), d = random_double(x.sizes(), 2).to(at::kFloat);
  EXPECT_TRUE(at::equal(reward_gradient(kept, x, prompts()).gradient,
                        reward_gradient(run_again, x, prompts()).gradient));
  EXPECT_TRUE(at::equal(reward_hessian_product(kept, x, d, prompts()),
                        reward_hessian_product(run_again, x, d, prompts())));
  // That they do run again is told by what checkpointing cannot do.
  const Tensor leaf = x.clone().requires_grad_(true);
  const Tensor score = run_again.score(leaf, prompts()).sum();
  EXPECT_THAT(message_of([&] {
                torch::autograd::grad({score}, {leaf}, {}, /*retain_graph=*/true,
                                      /*create_graph=*/true);
              }),
              HasSubstr("second derivatives cannot run through a checkpointed block"));
}

TEST(ImageReward, IsRegisteredAndSaysWhatItNeeds) {
  EXPECT_THAT(message_of([] { make_reward("imagereward", {}); }),
              HasSubstr("imagereward needs the weights 'imagereward', which are not given"));
  RewardResources without = resources();
  without.weights.erase("bert-vocab");
  EXPECT_THAT(message_of([&] { ImageRewardReward reward(without, tiny_options()); }),
              HasSubstr("pass reward_weights=[bert-vocab=PATH]"));
  EXPECT_THAT(message_of([] { make_reward("imagereward", resources()); }),
              HasSubstr("does not fit the network"))
      << "the sizes are ImageReward's own";
}

TEST(ImageReward, RefusesAVocabularyOfAnotherModelAndPromptsWithoutImages) {
  RewardResources other = resources();
  other.weights["bert-vocab"] =
      std::filesystem::path(VGGFLOW_SOURCE_DIR) / "src/vggflow/text/testdata/wordpiece_vocab.txt";
  EXPECT_THAT(message_of([&] { ImageRewardReward reward(other, tiny_options()); }),
              HasSubstr("[imagereward] expected 29 tokens in"));
  EXPECT_THAT(
      message_of([] { ImageRewardReward(resources(), tiny_options()).score(images(), {"a"}); }),
      HasSubstr("expected one prompt per image, got 1 for 4"));
}

}  // namespace
}  // namespace vggflow
