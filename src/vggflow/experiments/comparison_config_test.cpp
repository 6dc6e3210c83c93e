#include "vggflow/experiments/comparison_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vggflow/testing/message.h"
#include "vggflow/testing/variable.h"

namespace vggflow {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::message_of;
using ::testing::Not;
using ::testing::Pair;
using ::testing::StartsWith;

const char* const kWhole = R"(
out: runs/c
base: base.yaml
common: [updates=3, value.kind=none]
seeds: [4, 5]
arms:
  - first: [method=a]
  - second: {set: [method=b], grid: {vgg.beta: [1, 2], policy_optimizer.lr: [1e-4]}}
  - third arm: {grid: {a.lr: [0.1], b.lr: [0.2]}}
grid: {policy_optimizer.lr: [1e-4, 3e-4]}
select: {by: reward_at_diversity_floor, floor: 0.7, judge_fall: 4, seeds: [0]}
box: {gain_sd: 3, diversity_kept: 0.9}
parallel: 2
)";

ComparisonConfig parsed(const std::string& text, const std::vector<std::string>& settings = {}) {
  return parse_comparison(text, "c.yaml", settings);
}

std::vector<std::string> names_of(const ComparisonArm& arm) {
  std::vector<std::string> names;
  for (const ArmSetting& s : arm.settings) names.push_back(s.name);
  return names;
}

std::vector<std::string> labels_of(const std::vector<PlannedRun>& runs) {
  std::vector<std::string> labels;
  for (const PlannedRun& r : runs) labels.push_back(r.label);
  return labels;
}

TEST(ComparisonConfig, ReadsEveryKey) {
  const ComparisonConfig c = parsed(kWhole);
  EXPECT_EQ(c.out, "runs/c");
  EXPECT_EQ(c.base, "base.yaml");
  EXPECT_THAT(c.common, ElementsAre("updates=3", "value.kind=none"));
  EXPECT_THAT(c.seeds, ElementsAre(4, 5));
  EXPECT_THAT(c.tuning_seeds(), ElementsAre(0));
  EXPECT_EQ(c.select.by, SelectBy::kRewardAtDiversityFloor);
  EXPECT_EQ(c.select.floor, 0.7);
  EXPECT_EQ(c.select.judge_fall, 4);
  EXPECT_EQ(c.box.gain_sd, 3);
  EXPECT_EQ(c.box.diversity_kept, 0.9);
  EXPECT_EQ(c.parallel, 2);
  EXPECT_TRUE(c.tunes());
}

TEST(ComparisonConfig, GridsGiveEveryCombinationWithTheNumbersAsTheyWereWritten) {
  const ComparisonConfig c = parsed(kWhole);
  ASSERT_EQ(c.arms.size(), 3u);
  EXPECT_THAT(names_of(c.arms[0]), ElementsAre("lr=1e-4", "lr=3e-4"));
  EXPECT_THAT(c.arms[0].settings[1].overrides, ElementsAre("method=a", "policy_optimizer.lr=3e-4"));
  EXPECT_THAT(names_of(c.arms[1]), ElementsAre("beta=1, lr=1e-4", "beta=2, lr=1e-4"))
      << "an arm's grid takes the place of the common one";
  EXPECT_THAT(names_of(c.arms[2]), ElementsAre("a.lr=0.1, b.lr=0.2"))
      << "keys that end alike are written out";
}

TEST(ComparisonConfig, ARunsCommandOrdersItsSettingsFromCommonToCommandLine) {
  const PlannedRun run = planned_run(parsed(kWhole, {"batch=2"}), 1, 1, 4);
  EXPECT_EQ(run.label, "second beta=2, lr=1e-4 seed 4");
  EXPECT_EQ(run.folder, "runs/c/runs/second/beta=2,-lr=1e-4/seed4");
  EXPECT_THAT(
      run.arguments("base.yaml"),
      ElementsAre("align", "--config", "base.yaml", "run=runs/c/runs/second/beta=2,-lr=1e-4/seed4",
                  "seed=4", "updates=3", "value.kind=none", "method=b", "vgg.beta=2",
                  "policy_optimizer.lr=1e-4", "batch=2"));
}

TEST(ComparisonConfig, TuningTakesArmsWithAChoiceAndTheTablesTakeOneSettingOfEach) {
  const ComparisonConfig c = parsed(kWhole);
  EXPECT_THAT(labels_of(tuning_runs(c)),
              ElementsAre("first lr=1e-4 seed 0", "first lr=3e-4 seed 0",
                          "second beta=1, lr=1e-4 seed 0", "second beta=2, lr=1e-4 seed 0"));
  EXPECT_THAT(labels_of(table_runs(c, {1, std::nullopt, 0})),
              ElementsAre("first lr=3e-4 seed 4", "third arm seed 4", "first lr=3e-4 seed 5",
                          "third arm seed 5"));
  EXPECT_EQ(run_count(c, 0), 4) << "two settings on seed 0, and one of them on 4 and 5";
  EXPECT_EQ(run_count(c, 2), 2);
  EXPECT_EQ(run_count(parsed(kWhole, {"seeds=[0, 4, 5]"}), 0), 4)
      << "what tuning has run is not run again";
}

TEST(ComparisonConfig, WithoutSelectSeedsTuningTakesThoseOfTheTables) {
  const ComparisonConfig c =
      parsed("{out: o, base: b, seeds: [1, 2], arms: [{a: []}], grid: {x: [1, 2]}}");
  EXPECT_THAT(labels_of(tuning_runs(c)),
              ElementsAre("a x=1 seed 1", "a x=2 seed 1", "a x=1 seed 2", "a x=2 seed 2"));
  EXPECT_THAT(tuning_runs(parsed("{out: o, base: b, arms: [{a: []}]}")), IsEmpty())
      << "an arm of one setting has nothing to tune";
}

TEST(ComparisonConfig, TheCommandLineReplacesTheFilesKeysAndPassesOtherSettingsOn) {
  const ComparisonConfig c =
      parsed(kWhole, {"out=elsewhere", "seeds=[9]", "select.by=hypervolume", "updates=1"});
  EXPECT_EQ(c.out, "elsewhere");
  EXPECT_THAT(c.seeds, ElementsAre(9));
  EXPECT_EQ(c.select.by, SelectBy::kHypervolume);
  EXPECT_EQ(c.select.floor, 0.7);
  EXPECT_THAT(c.last, ElementsAre("updates=1"));
}

struct Refusal {
  std::string text, message;
};

TEST(ComparisonConfig, RefusesWithFileLineAndWhatWasExpected) {
  const std::string head = "out: o\nbase: b\n", arms = "arms:\n  - a: [x=1]\n";
  const std::vector<Refusal> refusals{
      {"[1, 2]", "c.yaml: expected lines of 'key: value'"},
      {"out: [", "c.yaml is not YAML"},
      {head + arms + "seed: [1]\n",
       "c.yaml line 5: unknown key 'seed' in a comparison; did you mean 'seeds'?"},
      {"base: b\n" + arms, "the key 'out' is missing"},
      {head, "the key 'arms' is missing"},
      {head + "arms: []\n", "line 3: expected arms as a list"},
      {head + "arms: [only-a-name]\n",
       "expected an arm as 'name: [key=value, ...]', got 'only-a-name'"},
      {head + "arms:\n  - a: [method]\n", "line 4: expected key=value in arm 'a', got 'method'"},
      {head + "arms:\n  - a: {sets: [x=1]}\n",
       "unknown key 'sets' in arm 'a'; did you mean 'set'?"},
      {head + "arms:\n  - a b: []\n  - a-b: []\n",
       "line 5: two arms have the folder 'a-b'; rename 'a-b'"},
      {head + "arms:\n  - a: [seed=3]\n", "line 4: 'seed' is set by compare for each run"},
      {head + arms + "common: [run=x]\n", "'run' is set by compare"},
      {head + arms + "seeds: [one]\n", "line 5: expected whole numbers for seeds, got 'one'"},
      {head + arms + "seeds: [1, 1]\n", "a seed is there twice in seeds"},
      {head + arms + "seeds: []\n", "expected at least one seed for seeds"},
      {head + arms + "parallel: 0\n", "expected parallel from 1 to 1024, got 0"},
      {head + arms + "grid: [1]\n", "expected grid as {setting: [values]}"},
      {head + arms + "grid: {lr: []}\n", "expected at least one value for grid's lr"},
      {head + arms + "grid: {lr: [1, 1]}\n", "a value is there twice in grid's lr"},
      {head + arms + "select: {by: rewards}\n",
       "expected select.by to be one of reward, hypervolume, reward_at_diversity_floor, got "
       "'rewards'; did you mean 'reward'?"},
      {head + arms + "select: {by: reward, judge_fall: 2}\n",
       "select.judge_fall goes with select.by=hypervolume or reward_at_diversity_floor"},
      {head + arms + "select: {floor: 2}\n", "expected select.floor from 0 to 1, got 2"},
      {head + arms + "box: {gain: 2}\n", "unknown key 'gain' in box; did you mean 'gain_sd'?"},
      {head + "out: p\n" + arms, "the key 'out' is there twice"}};
  for (const Refusal& r : refusals)
    EXPECT_THAT(message_of([&] { parsed(r.text); }), HasSubstr(r.message)) << r.text;
}

TEST(ComparisonConfig, RefusesOverridesByName) {
  EXPECT_THAT(message_of([] { parsed(kWhole, {"updates"}); }),
              HasSubstr("expected key=value, got 'updates'"));
  EXPECT_THAT(message_of([] { parsed(kWhole, {"resume=true"}); }),
              HasSubstr("override resume=true: 'resume' is set by compare"));
  EXPECT_THAT(message_of([] { parsed(kWhole, {"seeds=[one]"}); }),
              HasSubstr("override seeds=[one]: expected whole numbers for seeds"));
  EXPECT_THAT(message_of([] { parsed(kWhole, {"seeds=["}); }),
              HasSubstr("override seeds=[: the value is not YAML"));
  EXPECT_THAT(message_of([] { parsed(std::string(100000, '[')); }), HasSubstr("is not YAML"));
}

TEST(ComparisonConfig, KnowsTheHomeFolderAndNamesNoPassword) {
  const testing::Variable home("HOME", "/someone");
  const ComparisonConfig c = parsed(
      "out: ~/c\nbase: ~/base.yaml\narms:\n  - a: {grid: {reward: ['http://me:secret@host/x']}}\n");
  EXPECT_EQ(c.out, "/someone/c");
  EXPECT_EQ(c.base, "/someone/base.yaml");
  EXPECT_THAT(names_of(c.arms[0]).front(), HasSubstr("reward=http://host/x"));
  EXPECT_THAT(c.arms[0].settings[0].overrides, ElementsAre(HasSubstr("me:secret@")))
      << "the run itself is asked with it";
  EXPECT_THAT(c.text, Not(HasSubstr("secret")));
}

TEST(ComparisonConfig, TheHelpNamesEveryKey) {
  for (const char* key :
       {"out:", "base:", "common:", "seeds:", "arms:", "grid:", "select:", "select.by:",
        "select.floor:", "select.judge_fall:", "select.seeds:", "box:", "parallel:"}) {
    EXPECT_THAT(comparison_keys(), Contains(Pair(StartsWith(key), Not(IsEmpty()))));
  }
}

}  // namespace
}  // namespace vggflow
