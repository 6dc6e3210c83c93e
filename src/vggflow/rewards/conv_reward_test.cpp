// The rewards on convolutional networks, in full size with weights by formula, against timm
// (tools/reference/conv_reference.py rewards), and the judge without a gradient.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/round.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "vggflow/core/error.h"
#include "vggflow/io/safetensors.h"
#include "vggflow/rewards/class_reward.h"
#include "vggflow/rewards/jpeg_reward.h"
#include "vggflow/rewards/nima_reward.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/pattern.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;
using testing::message_of;
using testing::pattern;

Tensor reference(const std::string& name) {
  static const SafetensorsFile file(std::filesystem::path(VGGFLOW_SOURCE_DIR) /
                                    "src/vggflow/rewards/testdata/conv_rewards.safetensors");
  return file.load(name);
}

// Numbered layers of a network in its full size.
std::filesystem::path write_numbered(const std::filesystem::path& file,
                                     const MobileNetOptions& options) {
  MobileNet net(options);
  TensorList tensors;
  const auto put = [&](size_t layer, at::IntArrayRef shape) {
    const auto name = fmt::format("layers.{}", layer);
    tensors.emplace_back(name + ".weight", testing::pattern_weight(name + ".weight", shape));
    tensors.emplace_back(name + ".bias", testing::pattern_weight(name + ".bias", {shape[0]}));
  };
  const auto convs = net.convolutions();
  for (size_t i = 0; i < convs.size(); ++i) put(i, convs[i]->weight.sizes());
  put(convs.size(), net.classifier.weight.sizes());
  write_safetensors(file, tensors);
  return file;
}

double of_largest(const Tensor& got, const Tensor& want) {
  return ((got - want).abs().max() / want.abs().max()).item<double>();
}

// Through the registry, as a run does.
struct Networks {
  testing::TemporaryFolder folder;
  RewardResources resources;
  Networks() {
    resources.nima_size = resources.mobilenet_size = 64;
    resources.weights["nima-aesthetic"] = resources.weights["nima-technical"] =
        write_numbered(folder / "nima.safetensors", mobilenet_v1_options(10));
    resources.weights["mobilenet-v2"] =
        write_numbered(folder / "v2.safetensors", mobilenet_v2_options(1001));
  }
};

const std::vector<std::string> kPrompts{"a photo of a horse", "A ship, at night"};

TEST(ConvRewards, ScoresGradientsAndHessianProductsEqualTimms) {
  const Networks networks;
  for (const auto& [name, key] : {std::pair{"nima-aesthetic", "nima"},
                                  {"nima-technical", "nima"},
                                  {"mobilenet-class", "mobilenet_v2"}}) {
    const auto reward = make_reward(name, networks.resources);
    const Tensor image = pattern("reward.image", {2, 3, 24, 24}).to(at::kFloat),
                 direction = pattern("reward.direction", {2, 3, 24, 24}) - 0.5;
    const auto want = [network = key](const char* value) {
      return reference(fmt::format("{}.{}", network, value));
    };
    const RewardGradient got = reward_gradient(*reward, image, kPrompts);
    EXPECT_LT(of_largest(got.score, want("score")), 1e-4) << name;
    EXPECT_LT(of_largest(got.gradient, want("gradient")), 1e-4) << name;
    EXPECT_LT(of_largest(reward_hessian_product(*reward, image, direction.to(at::kFloat), kPrompts),
                         want("hessian_product")),
              1e-3)
        << name;
    EXPECT_TRUE(reward->differentiable());
  }
}

TEST(ConvRewards, TheScoredSizeIsASetting) {
  const RewardFiles files{
      .reward_weights = {}, .nima_size = 96, .mobilenet_size = 160, .jpeg_quality = 50};
  EXPECT_EQ(files.resources().nima_size, 96);
  EXPECT_EQ(files.resources().mobilenet_size, 160);
  EXPECT_EQ(files.resources().jpeg_quality, 50);
  const Networks networks;
  RewardResources larger = networks.resources;
  larger.nima_size = 96;
  const Tensor image = pattern("reward.image", {2, 3, 24, 24}).to(at::kFloat);
  EXPECT_GT(
      (make_reward("nima-technical", larger)->score(image, kPrompts) - reference("nima.score"))
          .abs()
          .max()
          .item<double>(),
      1e-3);
}

TEST(MobilenetClass, FindsTheOneClassThatAPromptNames) {
  EXPECT_EQ(class_in_prompt("a photo of a Cat.").name, "cat");
  EXPECT_THAT(
      message_of([] { class_in_prompt("a photo of a category"); }),
      HasSubstr("names one of airplane, automobile, bird, cat, deer, and 5 more (\"a photo"));
  EXPECT_THAT(message_of([] { class_in_prompt("a photo of a category"); }),
              HasSubstr("got none in 'a photo of a category'"));
  EXPECT_THAT(message_of([] { class_in_prompt("a cat and a dog"); }),
              HasSubstr("got several in 'a cat and a dog'"));
}

TEST(MobilenetClass, ClassesAreDisjointAndOfImageNet) {
  std::set<int64_t> seen;
  for (const ImageNetClasses& c : cifar10_classes()) {
    for (const int64_t id : c.classes)
      EXPECT_TRUE(id >= 0 && id < 1000 && seen.insert(id).second) << c.name << ' ' << id;
  }
  EXPECT_EQ(cifar10_classes().size(), 10u);
}

// With 1000 classes there is no background and the classes begin at 0: the same scores from logits
// moved by one.
TEST(MobilenetClass, KnowsWhetherClassZeroIsTheBackground) {
  const auto net = [](int64_t classes, int64_t ship) {
    auto made = std::make_unique<MobileNet>(
        MobileNetOptions{.stem = 4, .stages = {}, .head = 0, .classes = classes});
    made->classifier.bias[ship] = 5;
    return made;
  };
  const Tensor image = at::zeros({1, 3, 32, 32});
  const double with = ClassReward(net(1001, 781), 32).score(image, {"ship"}).item<double>();
  const double without = ClassReward(net(1000, 780), 32).score(image, {"ship"}).item<double>();
  EXPECT_NEAR(without, std::log((10 + std::exp(5.0)) / (999 + std::exp(5.0))), 1e-5);
  EXPECT_NEAR(with, std::log((10 + std::exp(5.0)) / (1000 + std::exp(5.0))), 1e-5);
  EXPECT_THAT(message_of([&] { ClassReward(net(10, 1), 32); }),
              HasSubstr("expected a network of 1000 classes, or 1001 with a background, got 10"));
  EXPECT_THAT(message_of([&] { ClassReward(net(1000, 1), 32).score(image, {"ship", "cat"}); }),
              HasSubstr("one prompt per image, got 2 for 1"));
}

// r = log softmax(W f + b)_c by hand, its directional derivative by the gradient, and its refusals.
TEST(ClassHeadReward, IsTheLogProbabilityOfTheClassThatThePromptNames) {
  Networks networks;
  auto network =
      load_head_network(HeadNetwork::kMobilenetV2, networks.resources.weights.at("mobilenet-v2"));
  const ClassHeadOptions options{
      .network_hash = network->options.hash, .size = 48, .classes = {"cat", "horse", "ship"}};
  ClassHead head(options, std::move(network));
  head.head.weight = testing::pattern_weight("head.weight", head.head.weight.sizes());
  head.save(networks.folder / "head", {});
  networks.resources.weights["class-head"] = networks.folder / "head";
  const auto reward = make_reward("class-head", networks.resources);
  const Tensor image = pattern("reward.image", {2, 3, 24, 24}).to(at::kFloat),
               direction = (pattern("reward.direction", {2, 3, 24, 24}) - 0.5).to(at::kFloat);
  const Tensor log_probability = at::log_softmax(head.forward(image).logits, 1);
  const RewardGradient got = reward_gradient(*reward, image, kPrompts);
  EXPECT_NEAR(got.score[0].item<double>(), log_probability[0][1].item<double>(), 1e-5);
  EXPECT_NEAR(got.score[1].item<double>(), log_probability[1][2].item<double>(), 1e-5);
  const Tensor slope = reward->score(Dual{image, direction}, kPrompts).tangent;
  EXPECT_LT(of_largest(slope, (got.gradient * direction).sum({1, 2, 3})), 1e-4);
  EXPECT_THAT(message_of([&] { reward->score(image, {"a photo of a dog", "ship"}); }),
              HasSubstr("[class-head] expected a prompt that names one of cat, horse, ship"));
  networks.resources.weights.erase("mobilenet-v2");
  EXPECT_THAT(message_of([&] { make_reward("class-head", networks.resources); }),
              HasSubstr("class-head needs the weights 'mobilenet-v2', which are not given"));
}

// Sizes are Pillow's 13.0 (libjpeg-turbo 3): Image.fromarray(uint8).save(f, "JPEG", quality=q).
TEST(Jpeg, CountsTheBytesThatPillowWrites) {
  const Tensor images = at::round(pattern("jpeg", {1, 3, 24, 40}) * 255).to(at::kFloat) / 255;
  const Tensor flat = at::full({1, 3, 24, 40}, 0.5f);
  EXPECT_EQ(JpegReward(95).score(at::cat({images, flat}), {"", ""})[0].item<double>(), 1894);
  EXPECT_EQ(JpegReward(30).score(images, {""}).item<double>(), 924);
  EXPECT_EQ(JpegReward(95).score(at::cat({images, flat}), {"", ""})[1].item<double>(), 649);
}

TEST(Jpeg, JudgesButIsRefusedWhereAGradientIsNeeded) {
  const auto reward = make_reward("jpeg", {});
  EXPECT_FALSE(reward->differentiable());
  EXPECT_FALSE(make_reward("colorfulness + 2*jpeg", {})->differentiable());
  EXPECT_TRUE(make_reward("colorfulness + 2*colorfulness", {})->differentiable());
  EXPECT_THAT(message_of([&] { require_differentiable(*reward, "jpeg"); }),
              HasSubstr("[reward] jpeg has no gradient: it can judge"));
  const Tensor image = at::full({1, 3, 8, 8}, 0.5f);
  EXPECT_THAT(message_of([&] { reward_gradient(*reward, image, {""}); }),
              HasSubstr("jpeg has no gradient"));
  EXPECT_THAT(message_of([&] { reward_hessian_product(*reward, image, image, {""}); }),
              HasSubstr("jpeg has no gradient"));
  at::NoGradGuard no_grad;
  EXPECT_GT(reward->score(image.clone().requires_grad_(true), {""}).item<double>(), 100);
}

}  // namespace
}  // namespace vggflow
