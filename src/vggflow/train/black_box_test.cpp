// Runs on rewards without a gradient: groups of one prompt, rollouts of a lagged policy, resumes.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "vggflow/io/safetensors.h"
#include "vggflow/nn/module.h"
#include "vggflow/testing/message.h"
#include "vggflow/train/align_fixture_test.h"
#include "vggflow/train/train_state.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using testing::expect_same_tensors;
using ::testing::HasSubstr;
using testing::lines_of;
using testing::tiny_config;

AlignConfig black_box(const std::string& name) {
  AlignConfig c = tiny_config(name);
  c.method = "ram";
  c.reward = "jpeg";
  c.batch = 6;
  return c;
}

TEST(BlackBox, TrainsOnJpegSizesAndResumesBitForBit) {
  AlignConfig whole = black_box("jpeg_whole"), halves = black_box("jpeg_halves");
  ASSERT_EQ(align(whole), RunEnd::kFinished);
  halves.updates = 2;
  ASSERT_EQ(align(halves), RunEnd::kFinished);
  halves.updates = 4;
  halves.resume = true;
  ASSERT_EQ(align(halves), RunEnd::kFinished);
  for (const char* file : {"lora.safetensors", "checkpoints/update_000004/state.safetensors"})
    expect_same_tensors(fs::path(whole.run) / file, fs::path(halves.run) / file);
  const auto updates = lines_of(whole.run, "update");
  EXPECT_EQ(updates, lines_of(halves.run, "update"));
  EXPECT_GT(updates.back()["grad_norm"]["policy"].get<double>(), 0);
  for (const Json& update : updates) {
    EXPECT_LE(update["unique"]["prompts"].get<int>(), 2) << "two groups of three";
    EXPECT_EQ(update["unique"]["noise"].get<int>(), 6);
  }
  const SafetensorsFile state(fs::path(whole.run) / "checkpoints/update_000004/state.safetensors");
  EXPECT_FALSE(at::equal(state.load("policy_lagged"), state.load("policy")));
}

TEST(BlackBox, InSharesIsTheRunOfOne) {
  AlignConfig one = black_box("jpeg_one"), three = black_box("jpeg_three");
  one.updates = three.updates = 2;
  three.shares = 3;
  ASSERT_EQ(align(one), RunEnd::kFinished);
  ASSERT_EQ(align(three), RunEnd::kFinished);
  const SafetensorsFile a(fs::path(one.run) / "lora.safetensors"),
      b(fs::path(three.run) / "lora.safetensors");
  for (const auto& [name, entry] : a.tensors())
    EXPECT_TRUE(at::allclose(a.load(name), b.load(name), 1e-3, 1e-5)) << name;
}

TEST(BlackBox, RefusesABatchThatItsGroupsDoNotFill) {
  AlignConfig c = black_box("jpeg_groups");
  c.batch = 4;
  EXPECT_THAT(testing::message_of([&] { align(c); }),
              HasSubstr("[align] expected a batch that ram's groups of 3 samples divide, got 4"));
  c.batch = 6;
  c.problem.merge = false;
  EXPECT_THAT(testing::message_of([&] { align(c); }),
              HasSubstr("[align] expected merge=true with ram"));
}

// The first update copies the policy, later ones lag behind it more and more.
TEST(LaggedPolicy, FollowsWithADecayThatGrowsToItsLimit) {
  Linear layer(2, 1);
  TrainState state(layer.parameters(), {}, 0.9, {}, {}, 0.015);
  ASSERT_TRUE(state.lagged);
  const auto step = [&](double to) {
    state.policy.buffer.values().fill_(to);
    state.lagged->update(state.policy.buffer);
    return state.lagged->values[0].item<double>();
  };
  EXPECT_NEAR(step(1), 1, 1e-6);
  EXPECT_NEAR(step(2), 0.01 * 1 + 0.99 * 2, 1e-6);
  EXPECT_NEAR(step(2), 0.015 * 1.99 + 0.985 * 2, 1e-6);
}

}  // namespace
}  // namespace vggflow
