// What rewards are said to take before they are opened, against the networks as they are built.
#include "vggflow/rewards/reward_cost.h"

#include <gtest/gtest.h>

#include <fstream>

#include "vggflow/networks/clip/clip_text.h"
#include "vggflow/networks/vision/class_head.h"
#include "vggflow/networks/vision/image_reward_network.h"
#include "vggflow/rewards/reward.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

double parameters(const std::string& name, const RewardResources& r = {}) {
  return reward_cost(name, r)->parameters;
}

TEST(RewardCost, IsKnownOfEveryRegisteredRewardAndOfNoOther) {
  for (const std::string& name : reward_names())
    EXPECT_TRUE(reward_cost(name, {}).has_value()) << name;
  EXPECT_FALSE(reward_cost("plugin:mine.so", {}).has_value());
}

// Real networks, with memory for their numbers.
TEST(RewardCost, CountsTheParametersOfTheBuiltNetworks) {
  const auto count = [](const Module& net) { return static_cast<double>(net.parameter_count()); };
  EXPECT_EQ(parameters("nima-aesthetic"), count(MobileNet(mobilenet_v1_options(10))));
  EXPECT_EQ(parameters("nima-technical"), parameters("nima-aesthetic"));
  EXPECT_EQ(parameters("mobilenet-class"), count(MobileNet(mobilenet_v2_options(1001))));
  EXPECT_EQ(parameters("class-head"), count(MobileNet(mobilenet_v2_options(1001))));
}

// As published: CLIP ViT-H/14 has 986,109,441 with its scale, ViT-L/14 427,616,513.
TEST(RewardCost, CountsThePublishedParametersOfTransformers) {
  EXPECT_EQ(parameters("pickscore"), 986109440);
  EXPECT_EQ(parameters("hpsv2.1"), 986109440);
  EXPECT_EQ(parameters("clip-score"), 427616512);
  // The tower of ViT-L/14 with its projection, and 768-1024-128-64-16-1 with biases.
  EXPECT_EQ(parameters("aesthetic"),
            427616512 - count_parameters<ClipTextModel>(ClipTextOptions{}) + 927969);
}

TEST(RewardCost, ReadsTheClassHeadsOwnSizes) {
  const testing::TemporaryFolder folder;
  std::ofstream(folder / "config.yaml")
      << "network: efficientnet-lite0\nsize: 64\nclasses: [cat, dog, ship]\n";
  RewardResources r;
  r.weights["class-head"] = folder.path();
  const RewardCost cost = *reward_cost("class-head", r);
  ClassHeadOptions o;
  o.network = HeadNetwork::kEfficientnetLite0;
  o.classes = {"cat", "dog", "ship"};
  const ClassHead built(o, std::make_unique<MobileNet>(efficientnet_lite0_options()));
  EXPECT_EQ(cost.parameters,
            static_cast<double>(built.parameter_count() + built.network->parameter_count()));
  EXPECT_EQ(cost.pass.forward, mobilenet_cost(efficientnet_lite0_options(), 64).forward);
}

TEST(RewardCost, FollowsTheSettings) {
  RewardResources half, again, small;
  half.dtype = at::kBFloat16;
  again.recompute = true;
  small.nima_size = 112;
  for (const char* name : {"aesthetic", "pickscore", "clip-score"}) {
    EXPECT_EQ(reward_cost(name, half)->bytes, 2 * parameters(name)) << name;
    EXPECT_TRUE(reward_cost(name, half)->half) << name;
  }
  EXPECT_EQ(reward_cost("imagereward", half)->bytes, 4 * parameters("imagereward"));
  EXPECT_FALSE(reward_cost("imagereward", half)->half) << "its products are fp32 in any case";
  EXPECT_LT(reward_cost("imagereward", again)->pass.graph,
            reward_cost("imagereward", {})->pass.graph / 3);
  EXPECT_NEAR(reward_cost("nima-aesthetic", small)->pass.graph /
                  reward_cost("nima-aesthetic", {})->pass.graph,
              0.25, 0.01);
}

}  // namespace
}  // namespace vggflow
