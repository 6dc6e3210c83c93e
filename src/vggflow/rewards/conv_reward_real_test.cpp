// NIMA and mobilenet-class with their real weights: scores and slopes that
// tools/reference/conv_reference.py real wrote, of images that both sides make.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "vggflow/io/safetensors.h"
#include "vggflow/networks/vision/mobilenet.h"
#include "vggflow/ops/resize.h"
#include "vggflow/rewards/nima_reward.h"
#include "vggflow/rewards/reward_check.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/pattern.h"
#include "vggflow/testing/real_file.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using testing::pattern;
using testing::relative_error;

Tensor images() { return testing::synthetic_images(at::kDouble).to(at::kFloat); }

Tensor reference(const std::string& name) {
  static const SafetensorsFile file(fs::path(VGGFLOW_SOURCE_DIR) /
                                    "src/vggflow/rewards/testdata/conv_real.safetensors");
  return file.load(name);
}

Tensor resized(const Tensor& images) {
  return ops::resize(images, 224, 224, ops::Interpolation::kBilinear);
}

const std::vector<std::string> kPrompts{"a photo of a bird", "a photo of a ship",
                                        "a photo of a cat", "a photo of a truck"};

class ConvRewardsReal : public ::testing::Test {
 protected:
  void SetUp() override {
    const fs::path assets = testing::assets();
    if (!fs::exists(assets / "nima"))
      GTEST_SKIP() << "left out: NIMA and MobileNetV2 with real weights, because VGGFLOW_ASSETS "
                      "holds no nima/";
    resources.weights = {{"nima-aesthetic", assets / "nima/nima_aesthetic.safetensors"},
                         {"nima-technical", assets / "nima/nima_technical.safetensors"},
                         {"mobilenet-v2", assets / "mobilenet_v2/mobilenet_v2.safetensors"}};
  }
  RewardResources resources;
};

// Slopes in fp64: smooth images leave so many units beside a kink of relu6 that fp32's rounding
// moves a gradient by per cents, in PyTorch as well.
TEST_F(ConvRewardsReal, NimaScoresAndSlopesAreTheReferences) {
  const Tensor direction = pattern("real.direction", {4, 3, 64, 64}) - 0.5;
  MobileNetOptions exact = mobilenet_v1_options(10);
  exact.dtype = at::kDouble;
  for (const char* kind : {"aesthetic", "technical"}) {
    for (const int64_t size : {224, 128}) {
      resources.nima_size = size;
      const auto reward = fmt::format("nima-{}", kind),
                 name = fmt::format("nima_{}.{}", kind, size);
      EXPECT_LT(relative_error(make_reward(reward, resources)->score(images(), kPrompts),
                               reference(name)),
                1e-4)
          << name;
      const RewardGradient got =
          reward_gradient(NimaReward(load_nima(resources.weights.at(reward), exact), size),
                          images().to(at::kDouble), kPrompts);
      EXPECT_LT(relative_error(got.score, reference(name)), 1e-6) << name;
      EXPECT_LT(
          relative_error((got.gradient * direction).sum({1, 2, 3}), reference(name + ".slope")),
          1e-5)
          << name;
    }
  }
}

TEST_F(ConvRewardsReal, MobileNetsFeaturesAndClassScoresAreTheReferences) {
  EXPECT_LT(relative_error(make_reward("mobilenet-class", resources)->score(images(), kPrompts),
                           reference("mobilenet_class")),
            1e-4);
  const auto net = load_mobilenet_v2(resources.weights.at("mobilenet-v2"));
  EXPECT_LT(relative_error(net->features(resized(images())).narrow(1, 0, 32),
                           reference("mobilenet_v2.features")),
            1e-4);
}

std::vector<std::string> failed(const std::vector<RewardCheckRow>& rows) {
  std::vector<std::string> names;
  for (const RewardCheckRow& r : rows) {
    if (!r.ok || r.left_out) names.push_back(fmt::format("{}: {}", r.name, r.found));
  }
  return names;
}

// Stored scores of other weights would be left out, and that is a failure here.
TEST_F(ConvRewardsReal, PassTheirCheckWithTheirStoredScores) {
  const RewardCheckOptions o{
      .prompts = {"a photo of a bird"},
      .stored = (fs::path(VGGFLOW_SOURCE_DIR) / "models/reward-scores.json").string()};
  for (const char* name : {"nima-aesthetic", "nima-technical", "mobilenet-class"}) {
    EXPECT_THAT(failed(check_reward(*make_reward(name, resources), name, o)), ::testing::IsEmpty())
        << name;
  }
}

// A reward whose gradient is `factor` times the right one.
struct Scaled : Reward {
  Tensor score(const Tensor& x, const std::vector<std::string>& prompts) const override {
    const Tensor r = inner->score(x, prompts);
    return r.detach() + factor * (r - r.detach());
  }
  Dual score(const Dual& x, const std::vector<std::string>& prompts) const override {
    return inner->score(x, prompts);
  }
  std::unique_ptr<Reward> inner;
  double factor = 1;
};

TEST_F(ConvRewardsReal, AGradientThatIsOnePercentTooLongFailsTheCheck) {
  resources.nima_size = 64;
  Scaled reward;
  reward.inner = make_reward("nima-technical", resources);
  const RewardCheckOptions o{.prompts = {"", ""}};
  const auto slopes = [&] {
    auto names = failed(check_reward(reward, "scaled", o));
    return std::count_if(names.begin(), names.end(),
                         [](const std::string& n) { return n.starts_with("slopes"); });
  };
  EXPECT_EQ(slopes(), 0);
  reward.factor = 1.01;
  EXPECT_EQ(slopes(), 3);
}

// The file that tools/to_safetensors.py makes of the PyPI wheel's: scripts/setup.sh --test puts it
// beside the tests' packages.
TEST(EfficientNetLite0Real, FeaturesAreTheReferences) {
  const fs::path file = testing::real_file("efficientnet_lite0/efficientnet_lite0.safetensors",
                                           "efficientnet_lite0.safetensors");
  if (file.empty())
    GTEST_SKIP() << "left out: EfficientNet-Lite0 with real weights, which neither VGGFLOW_ASSETS "
                    "nor scripts/setup.sh --test brought";
  EXPECT_LT(
      relative_error(load_efficientnet_lite0(file)->features(resized(images())).narrow(1, 0, 32),
                     reference("lite0.features")),
      1e-4);
}

}  // namespace
}  // namespace vggflow
