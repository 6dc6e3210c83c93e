// How beta follows a budget of control energy and the monitor's warnings, alone and in runs.
#include "vggflow/train/beta_steering.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <string>

#include "vggflow/core/json.h"
#include "vggflow/io/files.h"
#include "vggflow/io/jsonl.h"
#include "vggflow/testing/message.h"
#include "vggflow/train/align_fixture_test.h"

namespace vggflow {
namespace {

using testing::expect_same_tensors;
using ::testing::HasSubstr;
using testing::lines_of;
using testing::models;
using testing::tiny_config;

TEST(BetaSteering, StepsByTheLogOfTheEnergyOverItsBudget) {
  BetaSteering s({.budget = 2, .rate = 0.5});
  s.weigh(1);
  EXPECT_EQ(s.scale(), 1) << "beta is never above its setting";
  s.weigh(3);
  EXPECT_DOUBLE_EQ(s.scale(), std::pow(1.5, -0.5));
  s.weigh(1e9);
  EXPECT_DOUBLE_EQ(s.scale(), std::pow(1.5, -0.5) * std::exp(-0.5)) << "one step is bounded";
  s.weigh(std::nan(""));
  s.weigh(2);
  EXPECT_DOUBLE_EQ(s.scale(), std::pow(1.5, -0.5) * std::exp(-0.5));
  for (int i = 0; i < 10; ++i) s.weigh(0);
  EXPECT_EQ(s.scale(), 1);
}

TEST(BetaSteering, KeepsAWarningsCapOverACheckpoint) {
  BetaSteering s({.budget = 2, .rate = 0.5}), back({.budget = 2, .rate = 0.5});
  s.lower(0.5);
  s.weigh(0);
  EXPECT_EQ(s.scale(), 0.5);
  s.weigh(3);
  Checkpoint c;
  s.save(c);
  back.load(c);
  EXPECT_EQ(back.scale(), s.scale());
  back.weigh(0), back.weigh(0);
  EXPECT_EQ(back.scale(), 0.5);
  Checkpoint none;
  BetaSteering({}).save(none);
  EXPECT_TRUE(none.metadata.empty());
}

AlignConfig steered(const std::string& name) {
  AlignConfig c = tiny_config(name);
  c.value.kind = ValueKind::kNone;
  c.policy_optimizer.lr = 0.05;
  c.beta = {.budget = 1e-6, .rate = 0.3};
  return c;
}

TEST(Align, HoldsABudgetOfControlEnergyAndResumesBitForBit) {
  AlignConfig whole = steered("budget_whole"), halves = steered("budget_halves");
  ASSERT_EQ(align(whole), RunEnd::kFinished);
  const auto updates = lines_of(whole.run, "update");
  EXPECT_EQ(updates[0]["beta_scale"].get<double>(), 1);
  EXPECT_LT(updates[0]["values"]["policy_energy"].get<double>(), 1e-10)
      << "fresh adapters are the base, but for rounding";
  EXPECT_GT(updates[1]["values"]["policy_energy"].get<double>(), 1e-6);
  EXPECT_LT(updates[3]["beta_scale"].get<double>(), updates[1]["beta_scale"].get<double>());
  EXPECT_GT(updates[1]["passes"]["forward"].get<double>(), 0);
  const Json summary = Json::parse(read_text(std::filesystem::path(whole.run) / "summary.json"));
  EXPECT_EQ(summary["passes"], summary["expected_passes"]);
  halves.updates = 2;
  ASSERT_EQ(align(halves), RunEnd::kFinished);
  halves.updates = 4;
  halves.resume = true;
  ASSERT_EQ(align(halves), RunEnd::kFinished);
  EXPECT_EQ(lines_of(whole.run, "update"), lines_of(halves.run, "update"));
  expect_same_tensors(std::filesystem::path(whole.run) / "lora.safetensors",
                      std::filesystem::path(halves.run) / "lora.safetensors");
}

// Less colour is less diversity, and of one prompt the floor alone decides: a run that is warned
// of.
AlignConfig warned(const std::string& name, MonitorAction action) {
  AlignConfig c = tiny_config(name);
  c.value.kind = ValueKind::kNone;
  c.eval_every = 1;
  c.policy_optimizer.lr = 0.05;
  c.eval.diversity_floor = 1;
  c.monitor.action = action;
  c.reward = "-1*colorfulness";
  c.eval.prompts = 1;
  return c;
}

TEST(Align, EndsWhereTheMonitorWarnsIfAsked) {
  AlignConfig c = warned("warned_off", MonitorAction::kStop),
              on = warned("warned_on", MonitorAction::kWarn);
  ASSERT_EQ(align(on), RunEnd::kFinished);
  const auto warnings = lines_of(on.run, "warning");
  ASSERT_FALSE(warnings.empty()) << "the test needs another seed";
  const int64_t first = warnings.front()["update"].get<int64_t>();
  ASSERT_LT(first, c.updates);
  ASSERT_EQ(align(c), RunEnd::kFinished);
  EXPECT_EQ(lines_of(c.run, "update").size(), static_cast<size_t>(first));
  EXPECT_EQ(last_checkpoint(c.run), first);
  const Json summary = Json::parse(read_text(std::filesystem::path(c.run) / "summary.json"));
  EXPECT_EQ(summary["stopped_after"].get<int64_t>(), first);
  EXPECT_TRUE(std::filesystem::exists(std::filesystem::path(c.run) / "lora_ema.safetensors"));
}

TEST(Align, LowersBetaWhereTheMonitorWarnsIfAsked) {
  AlignConfig c = warned("warned_lower", MonitorAction::kLowerBeta);
  ASSERT_EQ(align(c), RunEnd::kFinished);
  const auto warnings = lines_of(c.run, "warning"), updates = lines_of(c.run, "update");
  ASSERT_FALSE(warnings.empty()) << "the test needs another seed";
  const auto first = warnings.front()["update"].get<size_t>();
  ASSERT_LT(first, updates.size());
  EXPECT_EQ(updates[first - 1]["beta_scale"].get<double>(), 1);
  EXPECT_EQ(updates[first]["beta_scale"].get<double>(), 0.5);
}

TEST(Align, RefusesToLowerABetaThatAMethodDoesNotHave) {
  AlignConfig c = tiny_config("no_beta");
  c.method = "refl";
  c.beta.budget = 1;
  EXPECT_THAT(testing::message_of([&] { align(c); }),
              HasSubstr("[align] refl has no beta to lower, got beta.budget=1"));
  c.beta.budget = 0;
  c.monitor.action = MonitorAction::kLowerBeta;
  EXPECT_THAT(testing::message_of([&] { align(c); }), HasSubstr("monitor.action=lower_beta"));
  c.method = "adjoint-matching";
  c.updates = c.eval_every = 1;
  EXPECT_EQ(align(c), RunEnd::kFinished);
}

}  // namespace
}  // namespace vggflow
