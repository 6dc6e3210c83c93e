// The planner: what it predicts of runs against what they take, every preset, what its switches do, and what it refuses.
#include "vggflow/train/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "vggflow/core/config.h"
#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::message_of;

const fs::path kSource = VGGFLOW_SOURCE_DIR;

AlignConfig preset(const std::string& file) {
  AlignConfig c;
  load_yaml(fields_of(c), kSource / "configs" / file);
  return c;
}

AlignConfig nano() {
  AlignConfig c = preset("nano.yaml");
  c.flow.model = (kSource / "models/nano").string();
  c.judge = (kSource / "models/judge").string();
  return c;
}

double amount(const std::vector<Amount>& amounts, const std::string& name) {
  for (const Amount& a : amounts) {
    if (a.name == name) return a.value;
  }
  return 0;
}

class Presets : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(All, Presets, ::testing::Values("aesthetic", "hpsv2", "pickscore", "aesthetic-release", "hpsv2-release", "pickscore-release"),
                         [](const auto& one) { auto n = one.param; std::replace(n.begin(), n.end(), '-', '_'); return n; });

TEST_P(Presets, ParseAndCanBePlannedWithoutTheModel) {
  const AlignConfig c = preset("sd3-medium/" + GetParam() + ".yaml");
  EXPECT_EQ(c.batch, 32);
  EXPECT_EQ(c.guidance, 5.0);
  const ModelShape shape = read_model_shape(c.flow);
  const Plan p = plan(c, shape);
  EXPECT_TRUE(p.notes.empty()) << p.notes.front();
  EXPECT_EQ(amount(p.parameters, "network"), 2028328000.0);
  EXPECT_EQ(amount(p.parameters, "adapters"), 2359296.0);  // as the paper's code has it
  EXPECT_GT(amount(p.parameters, "reward"), 3e8);
  EXPECT_GT(p.half_flops, 1e15);
  EXPECT_GT(p.peak, 8e9);
  EXPECT_FALSE(switches(c, shape).empty());
}

TEST(Presets, DifferWhereThePaperAndItsCodeDo) {
  EXPECT_EQ(preset("sd3-medium/aesthetic.yaml").methods.vgg.beta, 5e4);
  EXPECT_EQ(preset("sd3-medium/hpsv2.yaml").methods.vgg.beta, 3e7);
  EXPECT_EQ(preset("sd3-medium/pickscore.yaml").methods.vgg.beta, 5e5);
  const AlignConfig release = preset("sd3-medium/aesthetic-release.yaml");
  EXPECT_EQ(release.methods.vgg.transitions.count(), 6);
  EXPECT_EQ(release.flow.sd3.decoder, "taesd3");
}

TEST(Plan, AddsUpItsPartsAndTakesTheFullestMoment) {
  for (const AlignConfig& c : {nano(), preset("sd3-medium/aesthetic.yaml"), preset("sd3-medium/pickscore-release.yaml")}) {
    const Plan p = plan(c, read_model_shape(c.flow));
    double sum = 0, fullest = 0;
    for (const Amount& part : p.memory) sum += part.value;
    for (const Amount& moment : p.moments) fullest = std::max(fullest, moment.value);
    EXPECT_DOUBLE_EQ(sum, p.peak);
    EXPECT_DOUBLE_EQ(fullest, p.peak);
    EXPECT_DOUBLE_EQ(amount(p.moments, p.fullest), p.peak);
  }
}

TEST(Plan, CountsThePassesOfTheMethodsFormula) {
  AlignConfig c = nano();
  c.value.kind = "none";
  const Plan p = plan(c, read_model_shape(c.flow));
  EXPECT_EQ(p.passes.f, 16 * 20 * 2 + 16 * 5 * 3);
  EXPECT_EQ(p.passes.b, 16 * 5);
  EXPECT_EQ(p.cost_formula, "B N 2F + 5 B (3F + 1B)");
}

TEST(Plan, WorksForEveryMethod) {
  AlignConfig c = preset("sd3-medium/aesthetic.yaml");
  c.value.kind = "auto";
  for (const std::string& method : method_names()) {
    c.method = method;
    const Plan p = plan(c, read_model_shape(c.flow));
    EXPECT_GT(p.peak, 5e9) << method;
    EXPECT_GT(p.half_flops, 32 * 20 * 2 * 8e12) << method;
  }
}

TEST(Plan, FindsThatEachSwitchSavesWhatItSays) {
  const AlignConfig c = [] {
    AlignConfig large = preset("sd3-medium/aesthetic.yaml");
    large.micro_batch = 8;
    return large;
  }();
  const ModelShape shape = read_model_shape(c.flow);
  const Plan before = plan(c, shape);
  for (const Switch& s : switches(c, shape)) {
    EXPECT_LE(s.plan.peak, before.peak) << s.setting;
    const bool less_work = s.setting.find("=none") != std::string::npos || s.setting.starts_with("guidance") || s.setting.starts_with("sd3.");
    if (less_work) {
      EXPECT_LT(s.plan.half_flops + s.plan.full_flops, before.half_flops + before.full_flops) << s.setting;
    }
    if (s.setting == "checkpointing=true") {
      EXPECT_GT(s.plan.half_flops, before.half_flops);
      EXPECT_LT(s.plan.peak, before.peak);
    }
  }
}

TEST(Plan, SaysForPeopleAndForProgramsWhatFits) {
  const AlignConfig c = preset("sd3-medium/aesthetic-release.yaml");
  const ModelShape shape = read_model_shape(c.flow);
  const Plan p = plan(c, shape);
  const std::vector<Device> devices{{"tiny", 1e9, 1e12, 1e12}, {"vast", 1e15, 1e15, 1e15}};
  const std::string text = plan_text(c, shape, p, switches(c, shape), devices);
  for (const char* what : {"1024x1024 pixels", "TAESD3", "memory at the fullest moment", "merge=false", "fits on", "tiny"}) EXPECT_THAT(text, HasSubstr(what));
  const Json json = plan_json(p, switches(c, shape), devices);
  EXPECT_EQ(json["peak_bytes"].get<double>(), p.peak);
  EXPECT_FALSE(json["devices"]["tiny"]["fits"].get<bool>());
  EXPECT_TRUE(json["devices"]["vast"]["fits"].get<bool>());
  EXPECT_EQ(json["devices"]["vast"]["seconds_per_update"].get<double>(), p.seconds(devices[1]));
}

TEST(Plan, RefusesWhatAlignRefuses) {
  AlignConfig c = nano();
  c.method = "refl";
  c.value.kind = "unet";
  EXPECT_THAT(message_of([&] { plan(c, read_model_shape(c.flow)); }), HasSubstr("refl trains no value network"));
  c = nano();
  c.lora_targets = {"nothing.*"};
  EXPECT_THAT(message_of([&] { plan(c, read_model_shape(c.flow)); }), HasSubstr("lora_targets match no layer"));
  c = nano();
  c.time_grid.steps = 4;
  EXPECT_THAT(message_of([&] { plan(c, read_model_shape(c.flow)); }), HasSubstr("expected at most 4 bins for 4 steps, got 5"));
  c.flow.model = "/nowhere/model";
  EXPECT_THAT(message_of([&] { read_model_shape(c.flow); }), HasSubstr("/nowhere/model"));
}

TEST(Plan, NotesRewardsWhoseSizesItDoesNotKnowAndRefusesUnknownOnes) {
  AlignConfig c = nano();
  c.reward = "plugin:mine.so";
  const Plan p = plan(c, read_model_shape(c.flow));
  ASSERT_EQ(p.notes.size(), 1u);
  EXPECT_THAT(p.notes[0], HasSubstr("'plugin:mine.so' are not known"));
  c.reward = "aesthetc";
  EXPECT_THAT(message_of([&] { plan(c, read_model_shape(c.flow)); }), HasSubstr("unknown reward 'aesthetc'; known are aesthetic, "));
}

TEST(Plan, TakesTheGivenRateOfThisMachine) {
  const Device machine = this_machine(at::kFloat, 1e12);
  EXPECT_DOUBLE_EQ(machine.half, 0.5e12);
  EXPECT_GT(machine.memory, 1e9);
}

}  // namespace
}  // namespace vggflow
