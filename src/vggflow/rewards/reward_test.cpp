#include "vggflow/rewards/reward.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <utility>

#include "vggflow/core/config.h"
#include "vggflow/core/error.h"
#include "vggflow/core/trust.h"
#include "vggflow/networks/vision/emoji_clip.h"
#include "vggflow/rewards/colorfulness.h"
#include "vggflow/rewards/pixels.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

using testing::gradient_error;
using ::testing::HasSubstr;
using testing::message_of;
using testing::random_double;
using testing::relative_error;
using testing::tangent_error;

// A random emoji-clip, saved for the reward to load: no trained weights are needed to check
// derivatives.
std::filesystem::path random_clip() {
  static const testing::TemporaryFolder temporary;
  const auto folder = temporary / "clip";
  EmojiClip model({.pool = 2, .widths = {8, 16}, .text_width = 8, .embedding = 8},
                  Vocabulary({"red heart", "blue heart", "ghost"}, 4));
  model.init(3);
  model.save(folder, {});
  return folder;
}

const std::vector<std::string> kPrompts{"red heart", "ghost"};
// Rewards whose weights are the project's own, or that have none.
const std::vector<std::string> kOwnRewards{"colorfulness", "emoji-clip"};

std::unique_ptr<Reward> reward_named(const std::string& name) {
  return make_reward(name, {random_clip()});
}

Tensor images() { return at::sigmoid(random_double({2, 3, 8, 8}, 1)); }

// The networks' weights are fp32 on disk; double inputs make the arithmetic double.
TEST(Rewards, GradientsEqualCentralDifferences) {
  for (const std::string& name : kOwnRewards) {
    const auto reward = reward_named(name);
    EXPECT_LT(
        gradient_error([&](const std::vector<Tensor>& v) { return reward->score(v[0], kPrompts); },
                       {images()}),
        1e-6)
        << name;
  }
}

TEST(Rewards, TangentsEqualCentralDifferences) {
  for (const std::string& name : kOwnRewards) {
    const auto reward = reward_named(name);
    EXPECT_LT(
        tangent_error([&](const std::vector<Tensor>& v) { return reward->score(v[0], kPrompts); },
                      [&](const std::vector<Dual>& v) { return reward->score(v[0], kPrompts); },
                      {images()}),
        1e-6)
        << name;
  }
}

TEST(Rewards, HessianProductsEqualDifferencesOfTheGradient) {
  for (const std::string& name : kOwnRewards) {
    const auto reward = reward_named(name);
    const Tensor x = images(), d = random_double(x.sizes(), 2);
    const auto gradient = [&](double h) {
      return reward_gradient(*reward, x + h * d, kPrompts).gradient;
    };
    EXPECT_LT(relative_error(reward_hessian_product(*reward, x, d, kPrompts),
                             (gradient(1e-5) - gradient(-1e-5)) / 2e-5),
              1e-6)
        << name;
  }
}

// One red half and one blue half: rg is 255 and 0, yb 127.5 and -255.
TEST(Colorfulness, FollowsItsFormulaOnTwoColours) {
  Tensor image = at::zeros({1, 3, 2, 2});
  image.select(1, 0).select(2, 0).fill_(1);  // left column red
  image.select(1, 2).select(2, 1).fill_(1);  // right column blue
  const double var = 127.5 * 127.5 + 191.25 * 191.25, mean = std::hypot(127.5, -63.75);
  EXPECT_NEAR(ColorfulnessReward().score(image, {""}).item<double>(), std::sqrt(var) + 0.3 * mean,
              1e-2);
  const Tensor grey = at::full({1, 3, 2, 2}, 0.5);
  EXPECT_NEAR(ColorfulnessReward().score(grey, {""}).item<double>(), 0, 1e-2);
  EXPECT_TRUE(
      at::isfinite(reward_gradient(ColorfulnessReward(), grey, {""}).gradient).all().item<bool>());
}

TEST(Rewards, WeightedSumsAddUp) {
  const Tensor x = images();
  const Tensor a = reward_named("emoji-clip")->score(x, kPrompts),
               b = reward_named("colorfulness")->score(x, kPrompts);
  EXPECT_TRUE(at::allclose(reward_named("0.5*emoji-clip + 2e-1*colorfulness")->score(x, kPrompts),
                           0.5 * a + 0.2 * b));
}

TEST(Rewards, UnknownNamesAndBadWeightsAreRefused) {
  EXPECT_THAT(message_of([] { reward_named("aestetic"); }),
              HasSubstr("unknown reward 'aestetic'; known are aesthetic, class-head, clip-score, "
                        "colorfulness, emoji-clip, hpsv2.1, imagereward, jpeg, "
                        "mobilenet-class, nima-aesthetic, nima-technical, pickscore"));
  EXPECT_THROW(reward_named("x*emoji-clip"), Error);
  EXPECT_THROW(reward_named("emoji-clip")->score(images(), {"red heart", "dragon"}), Error);
}

TEST(RewardFiles, GiveWeightsByNameOrSayHowTo) {
  const RewardFiles files{"models/emoji-clip",
                          {"aesthetic-head=" + random_clip().string(), "pickscore=/nowhere"}};
  EXPECT_EQ(files.resources().at("aesthetic-head", "aesthetic"), random_clip());
  EXPECT_THAT(message_of([&] { files.resources().at("tower", "aesthetic"); }),
              HasSubstr("pass reward_weights=[tower=PATH]"));
  EXPECT_THAT(message_of([&] { files.resources().at("pickscore", "pickscore"); }),
              HasSubstr("are not at /nowhere"));
  EXPECT_THAT(message_of([] { RewardFiles{"", {"head"}}.resources(); }),
              HasSubstr("expected name=path, got 'head'"));
  EXPECT_THAT(message_of([] { RewardFiles{"", {"hpsv2.1=b", "hpsv2.1=c"}}.resources(); }),
              HasSubstr("'hpsv2.1' is given twice"));
  EXPECT_THAT(
      message_of([] { RewardFiles{"", {"clip-vit-114=b"}}.resources(); }),
      HasSubstr("nothing asks for weights named 'clip-vit-114'; did you mean clip-vit-l14,"));
  for (const char* name : {"mobilenet-v2", "nima-technical", "bert-vocab"})
    RewardFiles{"", {fmt::format("{}=b", name)}}.resources();
}

TEST(Pixels, TheClampSettingDecidesOnTheGradientOfSaturatedPixels) {
  for (const auto& [clamp, slope] : {std::pair{PixelClamp::kHard, 0.0},
                                     {PixelClamp::kStraightThrough, 0.5},
                                     {PixelClamp::kNone, 0.5}}) {
    const Tensor x = at::full({1}, 1.5, at::kDouble);
    EXPECT_LT(std::abs(to_pixels(Dual{x, at::ones_like(x)}, clamp).tangent.item<double>() - slope),
              1e-12)
        << word_of(clamp);
    EXPECT_EQ(to_pixels(x, clamp).item<double>(), clamp == PixelClamp::kNone ? 1.25 : 1.0)
        << word_of(clamp);
    const Tensor leaf = x.clone().requires_grad_(true);
    to_pixels(leaf, clamp).sum().backward();
    EXPECT_EQ(leaf.grad().item<double>(), slope) << word_of(clamp);
  }
}

TEST(Rewards, AWeightedSumGivesItsPartsWithTheirWeights) {
  const auto sum = reward_named("2*colorfulness + 0.5*emoji-clip");
  EXPECT_THAT(sum->weights(), ::testing::ElementsAre(2.0, 0.5));
  EXPECT_THAT(rewards_in("2*colorfulness + 0.5*emoji-clip"),
              ::testing::ElementsAre("colorfulness", "emoji-clip"));
  const Tensor parts = sum->parts(images(), kPrompts);
  EXPECT_LT(relative_error(parts[0], reward_named("colorfulness")->score(images(), kPrompts)),
            1e-12);
  EXPECT_LT(relative_error(2 * parts[0] + 0.5 * parts[1], sum->score(images(), kPrompts)), 1e-12);
  const auto one = reward_named("colorfulness");
  EXPECT_THAT(one->weights(), ::testing::ElementsAre(1.0));
  EXPECT_TRUE(at::equal(one->parts(images(), kPrompts)[0], one->score(images(), kPrompts)));
}

struct NamedReward {
  std::string reward;

  template <class V>
  void fields(V& v) {
    v("reward", reward, "a name");
  }
};

// The list of consent is core's, which knows no rewards.
TEST(Rewards, OfEverySchemeNeedConsent) {
  EXPECT_THAT(reward_schemes(), ::testing::Contains("plugin:"));
  for (const std::string& scheme : reward_schemes()) {
    NamedReward named{scheme + "x"};
    EXPECT_THAT(needed_trust(fields_of(named)), ::testing::SizeIs(1)) << scheme;
  }
}

// A program's own: the mean of the images.
class MeanReward : public Reward {
 public:
  Tensor score(const Tensor& images, const std::vector<std::string>&) const override {
    return ops::mean(images, {1, 2, 3}, /*keepdim=*/false);
  }
  Dual score(const Dual& images, const std::vector<std::string>&) const override {
    return ops::mean(images, {1, 2, 3}, /*keepdim=*/false);
  }
};

TEST(Rewards, OfAProgramsOwnAreNamedLikeOthers) {
  const auto make = [](const RewardResources&) { return std::make_unique<MeanReward>(); };
  add_reward("z-mean", make);
  EXPECT_EQ(reward_names().back(), "z-mean");
  EXPECT_FALSE(reward_cost("z-mean", {}));
  const auto sum = reward_named("2*z-mean + 0.5*colorfulness");
  EXPECT_LT(relative_error(sum->parts(images(), kPrompts)[0], images().mean({1, 2, 3})), 1e-12);
  EXPECT_THAT(message_of([&] { add_reward("z-mean", make); }),
              HasSubstr("there is a reward 'z-mean' already"));
  for (const char* name : {"", "2*z", "a + b", "plugin:z"})
    EXPECT_THAT(message_of([&] { add_reward(name, make); }),
                HasSubstr("expected a name of letters"))
        << name;
}

}  // namespace
}  // namespace vggflow
