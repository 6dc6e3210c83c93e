#include "vggflow/networks/vision/class_head.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>

#include "vggflow/networks/model_folder.h"
#include "vggflow/networks/vision/conv_case_test.h"
#include "vggflow/networks/vision/judge.h"
#include "vggflow/ops/resize.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;
using testing::message_of;

// A head of three classes on MobileNetV2 with weights by formula, and the folder it is saved in.
struct Saved {
  Saved() {
    testing::ConvCase("mobilenet_v2").write_weights(weights);
    auto network = load_head_network(HeadNetwork::kMobilenetV2, weights);
    const ClassHeadOptions options{
        .network_hash = network->options.hash, .size = 40, .classes = {"cat", "frog", "ship"}};
    head = std::make_unique<ClassHead>(options, std::move(network));
    head->head.weight = testing::pattern_weight("head.weight", head->head.weight.sizes());
    head->head.bias = testing::pattern_weight("head.bias", head->head.bias.sizes());
    head->save(folder / "head", {});
  }
  FindWeights find() const {
    return [this](const std::string& name) {
      EXPECT_EQ(name, "mobilenet-v2");
      return weights;
    };
  }
  testing::TemporaryFolder folder;
  std::filesystem::path weights = folder / "v2.safetensors";
  std::unique_ptr<ClassHead> head;
  Tensor images = testing::pattern("images", {2, 3, 24, 24}).to(at::kFloat);
};

TEST(ClassHead, IsALinearLayerOnTheNetworksFeatures) {
  const Saved s;
  const Tensor features =
      s.head->network->features(ops::resize(s.images, 40, 40, ops::Interpolation::kBilinear));
  const Judgement judgement = s.head->forward(s.images);
  EXPECT_TRUE(at::equal(judgement.features, features));
  EXPECT_TRUE(at::allclose(judgement.logits,
                           at::matmul(features, s.head->head.weight.t()) + s.head->head.bias, 1e-5,
                           1e-5));
  EXPECT_EQ(judgement.logits.sizes(), (std::vector<int64_t>{2, 3}));
}

TEST(ClassHead, ComesBackFromItsFolderAsAJudge) {
  const Saved s;
  const auto judge = open_judge(s.folder / "head", s.find());
  EXPECT_EQ(judge->classes(), s.head->options.classes);
  EXPECT_EQ(judge->name(), "mobilenet-v2");
  EXPECT_TRUE(at::equal(judge->forward(s.images).logits, s.head->forward(s.images).logits));
}

TEST(ClassHead, AFolderOfTheEmojiJudgeOpensWithoutOtherWeights) {
  const testing::TemporaryFolder folder;
  Judge judge({.size = 16, .layers = 1, .heads = 2, .head_dim = 8, .classes = {"a", "b"}});
  judge.init(3);
  judge.save(folder.path(), {});
  const auto opened = open_judge(
      folder.path(),
      [](const std::string& name) -> std::filesystem::path { fail("asked for {}", name); });
  EXPECT_EQ(opened->classes(), judge.options.classes);
  EXPECT_EQ(opened->name(), "judge");
}

TEST(ClassHead, RefusesOtherWeightsThanItWasTrainedOn) {
  const Saved s;
  testing::ConvCase("mobilenet_v2_tv").write_weights(s.weights);
  EXPECT_THAT(message_of([&] { ClassHead::load(s.folder / "head", s.find()); }),
              HasSubstr("was trained on mobilenet-v2 weights with the hash " +
                        s.head->options.network_hash + ", but "));
}

}  // namespace
}  // namespace vggflow
