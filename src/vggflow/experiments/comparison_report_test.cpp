#include "vggflow/experiments/comparison_report.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <regex>
#include <utility>
#include <vector>

#include "vggflow/experiments/comparison_fixture.h"
#include "vggflow/experiments/comparison_tables.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;
using testing::write_fake_run;

bool holds(const std::string& html, const std::string& piece) {
  return html.find(piece) != std::string::npos;
}

class ComparisonReport : public ::testing::Test {
 protected:
  ComparisonConfig config(const std::string& rest) const {
    return parse_comparison(fmt::format("{{out: {}, base: base.yaml, {}}}", out_.string(), rest),
                            "test");
  }
  ComparisonConfig two_arms() const {
    return config("seeds: [0, 1], arms: [{gentle: []}, {greedy <b>: []}]");
  }
  // gentle: reward 10, 12, 14 with diversity 100, 95, 90 %; greedy: 10, 14, 18 with 100, 60, 20 %.
  // Seeds differ by 0.2 of reward.
  static void write_two_arms(const ComparisonConfig& c) {
    for (const int64_t seed : {0, 1}) {
      const double s = 0.2 * static_cast<double>(seed);
      write_fake_run(planned_run(c, 0, 0, seed),
                     {{0, 10, 0.4}, {2, 12 + s, 0.38, 0.9, 5}, {4, 14 + s, 0.36, 0.88, 7}});
      write_fake_run(planned_run(c, 1, 0, seed),
                     {{0, 10, 0.4}, {2, 14 + s, 0.24, 0.8, 15}, {4, 18 + s, 0.08, 0.7, 40}});
    }
  }
  static RunCommand command() {
    return {"/bin/false", [](const PlannedRun&) { return std::vector<std::string>{}; }};
  }
  std::string page(const ComparisonConfig& c) const {
    write_comparison_report(collect(c, command()));
    return read_text(out_ / "report.html");
  }
  static std::vector<std::string> row_of(const ReportTable& table, const std::string& arm) {
    for (const ReportTable::Row& row : table.rows) {
      if (row.cells.front() == arm) return row.cells;
    }
    return {};
  }
  const testing::TemporaryFolder scratch_;
  const fs::path out_ = scratch_.path();
};

TEST_F(ComparisonReport, HoldsEveryPart) {
  const ComparisonConfig c = two_arms();
  write_two_arms(c);
  const std::string html = page(c);
  for (const char* piece : {"To know first",
                            "After the last update",
                            "At the largest reward that every run reaches",
                            "has lost half of the base&#39;s diversity",
                            "Reward against diversity",
                            "Reward against Fréchet distance",
                            "Reward against the judge",
                            "Mean trajectory",
                            "Hypervolume of the Pareto fronts",
                            "Over updates",
                            "Over time",
                            "Judge accuracy",
                            "Saturated pixels",
                            "KID",
                            "Cost",
                            "rollout 320, reward 16",
                            "B (K + 1)",
                            "Tuning effort",
                            "Before and after",
                            "How it was run",
                            "align --config base.yaml",
                            "a CPU",
                            "20 held-out prompts with 16 images each",
                            "greedy &lt;b&gt;"}) {
    EXPECT_TRUE(holds(html, piece)) << piece;
  }
  EXPECT_FALSE(holds(html, "greedy <b>"));
  EXPECT_FALSE(holds(html, "nan"));
  EXPECT_TRUE(holds(html, "class='box ok'"));
  EXPECT_FALSE(holds(html, "class='box warn'"));
}

// Of classes, evaluation's prompts are training's; a run that does not say claims nothing.
TEST_F(ComparisonReport, SaysWhatTheRunsSayOfTheirPrompts) {
  const ComparisonConfig c = two_arms();
  write_two_arms(c);
  ComparisonData data = collect(c, command());
  for (const auto& [words, piece] :
       {std::pair{"training prompts", "evaluated on 20 training prompts with 16 images each"},
        {"prompts", "evaluated on 20 prompts with 16 images each"}}) {
    for (RunResult& run : data.results) run.prompt_words = words;
    write_comparison_report(data);
    const std::string html = read_text(out_ / "report.html");
    EXPECT_TRUE(holds(html, piece)) << piece;
    EXPECT_TRUE(holds(read_text(out_ / "results.md"), piece)) << piece;
    EXPECT_TRUE(holds(html, fmt::format("Reward, {}<", words))) << words;
    EXPECT_FALSE(holds(html, "held-out"));
  }
}

TEST_F(ComparisonReport, EmbedsTheLastGridOfEveryArmBesideTheBasesAndNamesNothingOutsideItself) {
  const ComparisonConfig c = two_arms();
  write_two_arms(c);
  const std::string html = page(c);
  const auto at = [&](size_t arm, const char* grid) {
    const std::string bytes = read_text(planned_run(c, arm, 0, 0).folder / "grids" / grid);
    return html.find("data:image/png;base64," + base64({bytes.begin(), bytes.end()}));
  };
  ASSERT_NE(at(1, "eval_000004.png"), std::string::npos);
  EXPECT_LT(at(0, "eval_000000.png"), at(0, "eval_000004.png"));
  EXPECT_LT(at(0, "eval_000004.png"), at(1, "eval_000004.png"));
  EXPECT_EQ(at(0, "eval_000002.png"), std::string::npos);
  EXPECT_FALSE(std::regex_search(html, std::regex("https?:|@import|<script|<link")));
  EXPECT_FALSE(std::regex_search(html, std::regex("(src|href)=['\"](?!data:)")));
}

TEST_F(ComparisonReport, TheLastUpdateIsAveragedOverSeeds) {
  const ComparisonConfig c = two_arms();
  write_two_arms(c);
  const ComparisonData data = collect(c, command());
  EXPECT_THAT(row_of(last_update_table(ComparisonView(data)), "gentle"),
              ElementsAre("gentle", "–", "2", "14.100 ± 0.100", "2.05 ± 0.05", "88.0 ± 0.0",
                          "-2.0 ± 0.0", "90.0 ± 0.0", "7.00 ± 0.00", "0.0400 ± 0.0000"));
  EXPECT_THAT(row_of(last_update_table(ComparisonView(data)), "base model"),
              ElementsAre("base model", "–", "–", "10.000", "0.00", "90.0", "0.0", "100", "3.00",
                          "-0.0100"));
}

TEST_F(ComparisonReport, ComparesAtEqualRewards) {
  const ComparisonConfig c = two_arms();
  write_two_arms(c);
  const ComparisonData data = collect(c, command());
  const auto tables = equal_reward_tables(ComparisonView(data));
  ASSERT_EQ(tables.size(), 3u);
  EXPECT_EQ(tables[0].title, "At the largest reward that every run reaches: 14.000 (+2.00 sd)");
  // gentle's seeds: at 14 of 10, 12, 14 the last one; at 14 of 12.2, 14.2 a share of 0.9 between 95
  // and 90 %.
  EXPECT_THAT(row_of(tables[0], "gentle"),
              ElementsAre("gentle", "2 of 2", "3.9 ± 0.1", "8 ± 0", StartsWith("90.2 ± 0."),
                          StartsWith("6.90"), StartsWith("88.1")));
  // greedy's mean trajectory falls from 60 to 20 % between 14.1 and 18.1: half is at 15.1.
  EXPECT_EQ(
      tables[1].title,
      "At the reward where greedy <b> has lost half of the base's diversity: 15.100 (+2.55 sd)");
  EXPECT_THAT(row_of(tables[1], "gentle"),
              ElementsAre("gentle", "0 of 2", "not reached: 14.200 at most", "–", "–", "–", "–"));
  EXPECT_THAT(row_of(tables[1], "greedy <b>")[4], StartsWith("50.0"));
  EXPECT_EQ(tables[2].title, "Arms that never lose half of the base's diversity");
  EXPECT_THAT(tables[2].note, HasSubstr("The mean trajectory of gentle stays above 50 %"));
}

TEST_F(ComparisonReport, SaysPlainlyThatNoArmLosesHalfOfTheDiversity) {
  const ComparisonConfig c = config("arms: [{gentle: []}]");
  write_fake_run(planned_run(c, 0, 0, 0), {{0, 10, 0.4}, {2, 12, 0.3}});
  EXPECT_TRUE(holds(page(c), "No arm loses half of the base&#39;s diversity"));
}

TEST_F(ComparisonReport, StatesTheHypervolumesBoxAndTheirIntervals) {
  const ComparisonConfig c = two_arms();
  write_two_arms(c);
  const ComparisonData data = collect(c, command());
  const ReportTable table = hypervolume_table(ComparisonView(data));
  EXPECT_THAT(table.note, HasSubstr("clipped to a box of 4.5 sd x 100 %"));
  // gentle's points with both seeds: (1, .95), (1.1, .95), (2, .9), (2.1, .9).
  const auto row = row_of(table, "gentle");
  ASSERT_EQ(row.size(), 5u);
  EXPECT_EQ(row[1], fmt::format("{:.3f}", 1.1 * 0.95 + 1.0 * 0.9));
  EXPECT_THAT(row[2], HasSubstr(" to "));
  EXPECT_THAT(row[3], StartsWith("1.897 ± 0.04")) << "0.95 + 0.9 and 1.1 * 0.95 + 0.9";
}

TEST_F(ComparisonReport, ShowsAllSettingsOfTheTuningAndTheChosenOneInTheTables) {
  const ComparisonConfig c = config(
      "seeds: [1], arms: [{a: []}, {b: {grid: {lr: [7]}}}], grid: {lr: [1, 2]}, select: {by: "
      "reward, seeds: [0]}");
  for (const size_t setting : {0, 1})
    write_fake_run(planned_run(c, 0, setting, 0),
                   {{0, 10, 0.4}, {2, 12 + static_cast<double>(setting), 0.3}});
  write_fake_run(planned_run(c, 0, 1, 1), {{0, 10, 0.4}, {2, 15, 0.3}});
  write_fake_run(planned_run(c, 1, 0, 1), {{0, 10, 0.4}, {2, 11, 0.3}});
  const ComparisonData data = collect(c, command());
  const ComparisonView view(data);
  EXPECT_EQ(row_of(last_update_table(view), "a")[1], "lr=2");
  EXPECT_EQ(row_of(last_update_table(view), "a")[3], "15.000") << "the tuning seed is not in it";
  const ReportTable table = tuning_table(view);
  ASSERT_EQ(table.rows.size(), 3u);
  EXPECT_THAT(table.rows[1].cells, ElementsAre("a", "lr=2", "1", "13.000", "13.000", "75.0", "90.0",
                                               "3.00", "10", "yes"));
  EXPECT_TRUE(table.rows[1].chosen);
  EXPECT_FALSE(table.rows[0].chosen);
  EXPECT_THAT(comparison_warnings(view),
              Contains("Unequal tuning effort, settings tried by arm: a 2, b 1"));
  EXPECT_THAT(comparison_warnings(view), Contains(HasSubstr("One seed")));
}

TEST_F(ComparisonReport, WarnsOfSeedsThatWereTunedOn) {
  const ComparisonConfig c = config("seeds: [0, 1], arms: [{a: []}], grid: {lr: [1, 2]}");
  const ComparisonData data = collect(c, command());
  EXPECT_THAT(
      comparison_warnings(ComparisonView(data)),
      Contains(HasSubstr("The settings were chosen on seeds 0, 1, which the tables hold too")));
}

TEST_F(ComparisonReport, NamesWhatIsMissing) {
  const ComparisonConfig c =
      config("seeds: [0, 1], arms: [{whole: []}, {half: []}, {none: []}, {broken: []}]");
  write_fake_run(planned_run(c, 0, 0, 0), {{0, 10, 0.4}, {2, 12, 0.3}});
  fs::remove_all(planned_run(c, 0, 0, 0).folder / "grids");
  write_fake_run(planned_run(c, 1, 0, 0), {{0, 10, 0.4}});
  write_fake_run(planned_run(c, 1, 0, 1), {{0, 10, 0.4}, {2, 12, 0.3}});
  fs::remove(planned_run(c, 1, 0, 1).folder / "summary.json");
  write_fake_run(planned_run(c, 3, 0, 0), {{0, 10, 0.4}});
  write_text(planned_run(c, 3, 0, 0).folder / "summary.json", "{\"reward\":");
  const std::string html = page(c);
  for (const char* piece :
       {"Not done yet, 5 runs: none seed 0; whole seed 1; half seed 1 (2 updates)",
        "Missing: none has no finished run",
        "Missing: half seed 0 has no evaluation after the base",
        "Failed: broken seed 0: [compare] ", "summary.json is damaged",
        "Missing: whole has no grids/eval_*.png", "no finished run"}) {
    EXPECT_TRUE(holds(html, piece)) << piece;
  }
  EXPECT_FALSE(holds(html, ">nan"));
  EXPECT_FALSE(holds(html, "class='box ok'"));
}

TEST_F(ComparisonReport, OfNothingSaysThatThereAreNoNumbersYet) {
  const ComparisonConfig c = two_arms();
  const std::string html = page(c);
  EXPECT_TRUE(holds(html, "No run is finished: there are no numbers yet."));
  EXPECT_THAT(read_text(out_ / "results.md"), HasSubstr("No run is finished"));
}

TEST_F(ComparisonReport, WarnsOfRunsThatDoNotCompare) {
  const ComparisonConfig c = config("arms: [{a: []}, {b: []}]");
  write_fake_run(planned_run(c, 0, 0, 0), {{0, 10, 0.4}, {2, 12, 0.3}});
  write_fake_run(planned_run(c, 1, 0, 0), {{0, 11, 0.4}, {2, 12, 0.3}});
  write_text(planned_run(c, 1, 0, 0).folder / "summary.json", R"({"reward":"emoji-clip"})");
  const ComparisonData data = collect(c, command());
  const auto warnings = comparison_warnings(ComparisonView(data));
  EXPECT_THAT(warnings,
              Contains(HasSubstr("trained on different rewards (colorfulness; emoji-clip)")));
  EXPECT_THAT(warnings, Contains(HasSubstr("do not share the base evaluation (rewards 10, 11)")));
}

TEST_F(ComparisonReport, ShowsARewardPanelWhereTheRunsHaveOne) {
  const ComparisonConfig c = config("arms: [{a: []}]");
  const PlannedRun run = planned_run(c, 0, 0, 0);
  write_fake_run(run, {});
  Json base = testing::fake_eval({0, 10, 0.4}), after = testing::fake_eval({2, 12, 0.3});
  base["metrics"]["panel"] = {{"sharpness", {{"mean", 0.5}, {"se", 0.1}}}};
  after["metrics"]["panel"] = {{"sharpness", {{"mean", 0.75}, {"se", 0.1}}}};
  for (const Json& line : {base, after}) JsonLines(run.folder / "metrics.jsonl").write(line);
  const ComparisonData data = collect(c, command());
  const ReportTable table = panel_table(ComparisonView(data));
  EXPECT_THAT(table.head, ElementsAre("arm", "sharpness"));
  EXPECT_THAT(row_of(table, "base model"), ElementsAre("base model", "0.500"));
  EXPECT_THAT(row_of(table, "a"), ElementsAre("a", "0.750"));
  EXPECT_THAT(results_csv(data), HasSubstr(",panel.sharpness.mean,panel.sharpness.se\n"));
}

TEST_F(ComparisonReport, TheCsvHasALineAnEvaluationWithAllItsNumbers) {
  const ComparisonConfig c =
      config("seeds: [1], arms: [{'a, b': []}], grid: {lr: [1, 2]}, select: {seeds: [0]}");
  for (const size_t setting : {0, 1})
    write_fake_run(planned_run(c, 0, setting, 0),
                   {{0, 10, 0.4}, {2, 12 + static_cast<double>(setting), 0.3}});
  write_fake_run(planned_run(c, 0, 1, 1), {{0, 10, 0.4}, {2, 15, 0.3}});
  const std::string csv = results_csv(collect(c, command()));
  EXPECT_THAT(csv, StartsWith("arm,setting,seed,in_tables,update,train_seconds,wall_seconds,rss_"
                              "gib,peak_gib,reward_gain_sd,diversity_kept,reward.mean,reward.se,"));
  EXPECT_THAT(csv, HasSubstr("\n\"a, b\",lr=2,1,1,2,4,10,1.2,1.5,2.5,0.7"));
  EXPECT_THAT(csv, HasSubstr("\n\"a, b\",lr=1,0,0,0,0,3,,1.5,0,1,10,0.2,"))
      << "no update yet: no memory";
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 1 + 6);
}

TEST_F(ComparisonReport, TheMarkdownHoldsTheTables) {
  const ComparisonConfig c = two_arms();
  write_two_arms(c);
  page(c);
  const std::string text = read_text(out_ / "results.md");
  EXPECT_THAT(text, HasSubstr("| arm | setting | seeds | reward |"));
  EXPECT_THAT(text, HasSubstr("| gentle | – | 2 | 14.100 ± 0.100 |"));
  EXPECT_THAT(text, HasSubstr("## Hypervolume of the Pareto fronts"));
  EXPECT_THAT(text, HasSubstr("## Cost"));
}

}  // namespace
}  // namespace vggflow
