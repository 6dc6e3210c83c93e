// The rewards on CLIP against the official formulas and preprocessing: values from
// tools/reference/clip_reference.py, on random towers of a few thousand parameters.
#include "vggflow/rewards/clip_reward.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "vggflow/io/safetensors.h"
#include "vggflow/rewards/aesthetic.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::message_of;
using testing::relative_error;

const fs::path kSource = fs::path(VGGFLOW_SOURCE_DIR) / "src/vggflow";
const fs::path kClip = fs::path(VGGFLOW_SOURCE_DIR) / "tests/data/clip";
const fs::path kTokenizer = fs::path(VGGFLOW_SOURCE_DIR) / "tests/data/sd3_tiny/tokenizer";

RewardResources resources() {
  return {.emoji_clip = {},
          .weights = {{"clip-vit-l14", kClip / "transformers_quick"},
                      {"pickscore", kClip / "transformers_gelu"},
                      {"hpsv2.1", kClip / "open_clip"},
                      {"aesthetic-head", kSource / "rewards/testdata/aesthetic_head.safetensors"},
                      {"clip-tokenizer", kTokenizer}}};
}

Tensor get(const std::string& name) {
  static const SafetensorsFile file(kSource / "rewards/testdata/clip_rewards.safetensors");
  return file.load(name);
}

std::vector<std::string> prompts() {
  const Tensor bytes = get("prompts");
  const std::string all(reinterpret_cast<const char*>(bytes.const_data_ptr<uint8_t>()),
                        static_cast<size_t>(bytes.numel()));
  const size_t zero = all.find('\0');
  return {all.substr(0, zero), all.substr(zero + 1)};
}

class ClipRewards : public ::testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Reward> reward(const RewardResources& from = resources()) const {
    return make_reward(GetParam(), from);
  }
};
INSTANTIATE_TEST_SUITE_P(Names, ClipRewards,
                         ::testing::Values("aesthetic", "clip-score", "hpsv2.1", "pickscore"));

TEST_P(ClipRewards, ScoresAndImageGradientsEqualTheOfficialOnes) {
  const RewardGradient got = reward_gradient(*reward(), get("image"), prompts());
  EXPECT_LT(relative_error(got.score, get(GetParam())), 1e-5);
  const Tensor want = get(GetParam() + ".gradient");
  EXPECT_LT((got.gradient - want).abs().max().item<double>(),
            1e-4 * want.abs().max().item<double>());
}

TEST_P(ClipRewards, TellTheirPreprocessing) {
  EXPECT_THAT(reward()->describe(),
              ::testing::AllOf(HasSubstr(GetParam() == "hpsv2.1"
                                             ? "the longer side to 12, black around it, bicubic"
                                             : "the shorter side to 12, its middle, bicubic"),
                               HasSubstr("0.481 +- 0.269")));
}

TEST_P(ClipRewards, DerivativesEqualCentralDifferences) {
  const auto r = reward();
  const Tensor x = get("image").to(at::kDouble), d = testing::random_double(x.sizes(), 2, 0.1);
  EXPECT_LT(testing::tangent_error(
                [&](const std::vector<Tensor>& v) { return r->score(v[0], prompts()); },
                [&](const std::vector<Dual>& v) { return r->score(v[0], prompts()); }, {x}),
            1e-6);
  const auto gradient = [&](double h) {
    return reward_gradient(*r, x + h * d, prompts()).gradient;
  };
  const Tensor numeric = (gradient(1e-4) - gradient(-1e-4)) / 2e-4;
  EXPECT_LT(((reward_hessian_product(*r, x, d, prompts()) - numeric).norm() / numeric.norm())
                .item<double>(),
            1e-6);
}

TEST_P(ClipRewards, RecomputingGivesTheSameGradientAndBf16AboutTheSame) {
  auto other = resources();
  other.recompute = true;
  const RewardGradient want = reward_gradient(*reward(), get("image"), prompts());
  EXPECT_TRUE(
      at::equal(reward_gradient(*reward(other), get("image"), prompts()).gradient, want.gradient));
  EXPECT_THAT(message_of([&] {
                const Tensor x = get("image").requires_grad_(true);
                torch::autograd::grad({reward(other)->score(x, prompts()).sum()}, {x}, {},
                                      /*retain_graph=*/true, /*create_graph=*/true);
              }),
              HasSubstr("second derivatives cannot run through a checkpointed block"))
      << "which shows that layers do run again";
  other.dtype = at::kBFloat16;
  const RewardGradient rough = reward_gradient(*reward(other), get("image"), prompts());
  EXPECT_EQ(rough.gradient.scalar_type(), at::kFloat);
  EXPECT_FALSE(at::equal(rough.gradient, want.gradient));
  EXPECT_LT(((rough.gradient - want.gradient).norm() / want.gradient.norm()).item<double>(), 0.1);
}

TEST_P(ClipRewards, WithoutWeightsTheyAreAskedForByName) {
  const std::string weights =
      GetParam() == "aesthetic" || GetParam() == "clip-score" ? "clip-vit-l14" : GetParam();
  EXPECT_THAT(message_of([&] { reward({}); }),
              HasSubstr(fmt::format("[reward] {0} needs the weights '{1}', which are not given; "
                                    "pass reward_weights=[{1}=PATH]",
                                    GetParam(), weights)));
}

TEST(ClipReward, TheTokenizerBesideTheWeightsGoesFirst) {
  const testing::TemporaryFolder folder;
  fs::copy(kClip / "transformers_gelu", folder.path(), fs::copy_options::recursive);
  auto from = resources();
  from.weights["pickscore"] = folder.path();
  from.weights.erase("clip-tokenizer");
  EXPECT_THAT(message_of([&] { make_reward("pickscore", from); }),
              HasSubstr("pickscore needs the weights 'clip-tokenizer'"));
  fs::copy(kTokenizer, folder.path(),
           fs::copy_options::recursive | fs::copy_options::skip_existing);
  EXPECT_LT(relative_error(make_reward("pickscore", from)->score(get("image"), prompts()),
                           get("pickscore")),
            1e-5);
}

TEST(ClipReward, WantsAPromptForEveryImage) {
  EXPECT_THAT(message_of([] { make_reward("hpsv2.1", resources())->score(get("image"), {"cat"}); }),
              HasSubstr("[hpsv2.1] expected one prompt per image, got 1 for 2"));
}

TEST(Aesthetic, RefusesAHeadOfAnotherTower) {
  const testing::TemporaryFolder folder;
  TensorMap head = SafetensorsFile(kSource / "rewards/testdata/aesthetic_head.safetensors").views();
  const auto refusal = [&] {
    write_safetensors(folder / "head.safetensors", TensorList(head.begin(), head.end()));
    auto from = resources();
    from.weights["aesthetic-head"] = folder / "head.safetensors";
    return message_of([&] { make_reward("aesthetic", from); });
  };
  EXPECT_EQ(refusal(), "no error");
  head["layers.0.weight"] = at::zeros({6, 12});
  EXPECT_THAT(refusal(),
              HasSubstr("[aesthetic] expected a head from the tower's 10 numbers to one in"));
  head.erase("layers.0.weight");
  EXPECT_THAT(refusal(), HasSubstr("[aesthetic] expected 'layers.0.weight' of two dimensions in"));
}

TEST(RewardFiles, TellTheArithmeticOfLargeRewards) {
  EXPECT_EQ(RewardFiles{}.resources().dtype, at::kFloat);
  EXPECT_FALSE(RewardFiles{}.resources().recompute);
  RewardFiles files;
  files.reward_dtype = RewardDtype::kBf16;
  files.reward_recompute = true;
  EXPECT_EQ(files.resources().dtype, at::kBFloat16);
  EXPECT_TRUE(files.resources().recompute);
}

}  // namespace
}  // namespace vggflow
