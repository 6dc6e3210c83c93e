#include "vggflow/experiments/comparison.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>

#include "vggflow/core/random.h"
#include "vggflow/experiments/comparison_fixture.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using ::testing::DoubleNear;
using ::testing::ElementsAre;
using testing::FakeEval;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::message_of;
using testing::write_fake_run;

EvalPoint point(double reward, double kept, double fd = 0) {
  EvalPoint p;
  p.reward = reward;
  p.diversity_kept = kept;
  p.fd = fd;
  return p;
}

// ---- equal rewards
// ---------------------------------------------------------------------------------------------------

TEST(AtReward, IsLinearBetweenTwoEvaluations) {
  const std::vector<EvalPoint> rising{point(10, 1.0), point(12, 0.8), point(16, 0.4)};
  EXPECT_DOUBLE_EQ(at_reward(rising, 11, &EvalPoint::diversity_kept), 0.9);
  EXPECT_DOUBLE_EQ(at_reward(rising, 13, &EvalPoint::diversity_kept), 0.7);
  EXPECT_DOUBLE_EQ(at_reward(rising, 16, &EvalPoint::diversity_kept), 0.4)
      << "the last evaluation itself";
  EXPECT_DOUBLE_EQ(at_reward(rising, 10, &EvalPoint::diversity_kept), 1.0) << "the base itself";
}

TEST(AtReward, TakesTheFirstCrossingWhereTheRewardFallsAndRisesAgain) {
  const std::vector<EvalPoint> wave{point(10, 1.0), point(14, 0.6), point(11, 0.5), point(15, 0.1)};
  EXPECT_DOUBLE_EQ(at_reward(wave, 12, &EvalPoint::diversity_kept), 0.8);
  EXPECT_DOUBLE_EQ(at_reward(wave, 14.5, &EvalPoint::diversity_kept), 0.15)
      << "reached only by the second rise, from 11 to 15";
}

TEST(AtReward, IsNoNumberWhereTheLevelIsNeverReached) {
  EXPECT_TRUE(std::isnan(
      at_reward(std::vector{point(10, 1), point(12, 0.8)}, 12.5, &EvalPoint::diversity_kept)));
  EXPECT_TRUE(std::isnan(at_reward(std::vector<EvalPoint>{}, 1, &EvalPoint::diversity_kept)));
  EXPECT_TRUE(
      std::isnan(at_reward(std::vector{point(std::nan(""), 1)}, 1, &EvalPoint::diversity_kept)));
}

TEST(CommonReward, IsTheSmallestOfTheLargest) {
  RunResult a, b;
  a.evals = {point(10, 1), point(15, 1), point(13, 1)};
  b.evals = {point(10, 1), point(12, 1)};
  const std::vector<const RunResult*> both{&a, &b};
  EXPECT_EQ(common_reward(both), 12);
  EXPECT_TRUE(std::isnan(common_reward({})));
}

TEST(RewardAtDiversity, IsWhereTheTrajectoryFirstFallsBelow) {
  const std::vector<EvalPoint> falling{point(10, 1.0), point(12, 0.6), point(16, 0.4),
                                       point(18, 0.7), point(20, 0.1)};
  EXPECT_DOUBLE_EQ(*reward_at_diversity(falling, 0.5), 14);
  EXPECT_DOUBLE_EQ(*reward_at_diversity(falling, 0.6), 12);
  EXPECT_FALSE(reward_at_diversity(std::vector{point(10, 1), point(20, 0.5)}, 0.5))
      << "just half is not less than half";
}

TEST(MeanTrajectory, AveragesRunsUpdateByUpdate) {
  RunResult a, b;
  a.evals = {point(10, 1), point(12, 0.8)};
  b.evals = {point(10, 1), point(14, 0.6), point(20, 0.2)};
  a.evals[1].update = b.evals[1].update = 5;
  b.evals[2].update = 10;
  const std::vector<const RunResult*> both{&a, &b};
  const auto mean = mean_trajectory(both);
  ASSERT_EQ(mean.size(), 3u);
  EXPECT_DOUBLE_EQ(mean[1].reward, 13);
  EXPECT_DOUBLE_EQ(mean[1].diversity_kept, 0.7);
  EXPECT_DOUBLE_EQ(mean[2].reward, 20) << "only one run has it";
}

TEST(SpreadOverSeeds, LeavesOutWhatIsNoNumber) {
  const Spread s = spread(std::vector{1.0, std::nan(""), 3.0});
  EXPECT_EQ(s.n, 2u);
  EXPECT_DOUBLE_EQ(s.mean, 2);
  EXPECT_DOUBLE_EQ(s.se, 1);
  EXPECT_EQ(spread({}).n, 0u);
}

// ---- Pareto fronts and hypervolumes
// ----------------------------------------------------------------------------------

TEST(ParetoFront, KeepsWhatNothingElseDominates) {
  const std::vector<Point2> points{{1, 5}, {2, 4}, {2, 3}, {3, 4}, {4, 1}, {0, 5}, {3, 4}};
  EXPECT_THAT(pareto_front(points), ElementsAre(Point2{1, 5}, Point2{3, 4}, Point2{4, 1}));
  EXPECT_THAT(pareto_front({}), IsEmpty());
}

TEST(ParetoFront, LeavesOutPointsThatAreNotFinite) {
  const double inf = std::numeric_limits<double>::infinity();
  EXPECT_THAT(pareto_front(std::vector<Point2>{{1, 1}, {std::nan(""), 9}, {inf, 9}}),
              ElementsAre(Point2{1, 1}));
}

std::vector<Point2> random_points(int64_t n, uint64_t sample, int64_t levels) {
  RandomStream random({3, Purpose::kTest, 0, sample});
  std::vector<Point2> points;
  for (int64_t i = 0; i < n; ++i)
    points.push_back(
        {static_cast<double>(random.below(levels)), static_cast<double>(random.below(levels))});
  return points;
}

TEST(ParetoFront, EqualsBruteForceOnRandomPoints) {
  for (uint64_t trial = 0; trial < 50; ++trial) {
    const auto points = random_points(30, trial, 12);
    std::vector<Point2> expected;
    for (const Point2& p : points) {
      const bool dominated = std::any_of(points.begin(), points.end(), [&](const Point2& q) {
        return q != p && q[0] >= p[0] && q[1] >= p[1];
      });
      if (!dominated && std::find(expected.begin(), expected.end(), p) == expected.end())
        expected.push_back(p);
    }
    std::sort(expected.begin(), expected.end());
    EXPECT_EQ(pareto_front(points), expected);
  }
}

TEST(Hypervolume, EqualsHandComputedAreas) {
  EXPECT_DOUBLE_EQ(hypervolume(std::vector<Point2>{{2, 0.5}}, {4, 1}), 1.0);
  EXPECT_DOUBLE_EQ(hypervolume(std::vector<Point2>{{1, 1}, {2, 0.5}, {4, 0.25}}, {4, 1}),
                   1 + 0.5 + 0.5);
  EXPECT_DOUBLE_EQ(hypervolume(std::vector<Point2>{{9, 0.5}, {1, 3}}, {4, 1}), 1 + 3 * 0.5)
      << "points outside are moved to the box's edge";
  EXPECT_DOUBLE_EQ(
      hypervolume(std::vector<Point2>{{-1, 1}, {0, 1}, {1, 0}, {std::nan(""), 1}}, {4, 1}), 0)
      << "what does not exceed the reference point counts nothing";
}

TEST(Hypervolume, EqualsCountedCellsOnRandomPoints) {
  for (uint64_t trial = 0; trial < 50; ++trial) {
    const auto points = random_points(12, 100 + trial, 10);
    int64_t cells = 0;  // unit squares of a 7 x 8 box that some point covers
    for (int x = 0; x < 7; ++x) {
      for (int y = 0; y < 8; ++y)
        cells += std::any_of(points.begin(), points.end(),
                             [&](const Point2& p) { return p[0] > x && p[1] > y; });
    }
    EXPECT_DOUBLE_EQ(hypervolume(points, {7, 8}), static_cast<double>(cells));
  }
}

TEST(BoxEdge, IsAsGivenOrTheLargestGainRoundedUpToHalfASd) {
  RunResult run;
  run.evals = {point(10, 1)};
  run.evals[0].gain_sd = 1.2;
  const std::vector<const RunResult*> runs{&run};
  EXPECT_EQ(box_edge({0, 0.9}, runs), (Point2{1.5, 0.9}));
  EXPECT_EQ(box_edge({4, 1}, runs), (Point2{4, 1}));
  EXPECT_EQ(box_edge({0, 1}, {}), (Point2{0.5, 1}));
}

// ---- bootstrap
// -------------------------------------------------------------------------------------------------------

double mean_of_first(std::span<const Point2> points) {
  double sum = 0;
  for (const Point2& p : points) sum += p[0];
  return sum / static_cast<double>(points.size());
}

// Seeds with an effect of their own and evaluations around it; the mean is 5.
std::vector<std::vector<Point2>> random_groups(uint64_t trial) {
  RandomStream random({11, Purpose::kTest, 0, trial});
  std::vector<std::vector<Point2>> groups(12);
  for (auto& group : groups) {
    const double effect = random.normal();
    for (int i = 0; i < 6; ++i) group.push_back({5 + effect + 0.3 * random.normal(), 0});
  }
  return groups;
}

TEST(Bootstrap, CoversTheTruthAboutAsOftenAsItSays) {
  int covered = 0;
  for (uint64_t trial = 0; trial < 200; ++trial) {
    const BootstrapInterval i = bootstrap_interval(random_groups(trial), mean_of_first, trial, 400);
    covered += i.low <= 5 && 5 <= i.high;
  }
  // A percentile interval of 12 groups covers somewhat less than 95 %; three binomial sd of 200
  // trials are 5 %.
  EXPECT_GE(covered, 174);
  EXPECT_LT(covered, 200) << "an interval that always covers says nothing";
}

TEST(Bootstrap, GivesTheSameIntervalForTheSameDataAndSeed) {
  const auto groups = random_groups(0);
  const BootstrapInterval a = bootstrap_interval(groups, mean_of_first, 7, 300),
                          b = bootstrap_interval(groups, mean_of_first, 7, 300),
                          other = bootstrap_interval(groups, mean_of_first, 8, 300);
  EXPECT_EQ(a.low, b.low);
  EXPECT_EQ(a.high, b.high);
  EXPECT_NE(a.low, other.low);
}

TEST(Bootstrap, OfAHypervolumeNeverExceedsTheWhole) {
  const std::vector<std::vector<Point2>> groups{
      {{1, 1}, {2, 0.5}}, {{1.5, 0.9}, {3, 0.2}}, {{0.5, 1}}};
  const auto area = [](std::span<const Point2> p) { return hypervolume(p, {4, 1}); };
  std::vector<Point2> all;
  for (const auto& g : groups) all.insert(all.end(), g.begin(), g.end());
  const BootstrapInterval i = bootstrap_interval(groups, area, 0);
  EXPECT_LT(i.low, i.high);
  EXPECT_LE(i.high, area(all));
  EXPECT_GE(i.low, 0.5) << "every resample holds some point";
}

TEST(Bootstrap, RefusesNoGroups) {
  EXPECT_THAT(message_of([] { bootstrap_interval({}, mean_of_first, 0); }),
              HasSubstr("[bootstrap] expected groups and resamples, got 0 and 2000"));
}

// ---- reading and choosing
// --------------------------------------------------------------------------------------------

class ReadingRuns : public ::testing::Test {
 protected:
  PlannedRun plan(const std::string& name = "a") const { return {0, 0, 0, name, out_ / name, {}}; }
  const testing::TemporaryFolder scratch_;
  const fs::path out_ = scratch_.path();
};

TEST_F(ReadingRuns, TakesGainsCostsAndMemoryFromTheFolder) {
  write_fake_run(plan(), {{0, 10, 0.4}, {2, 13, 0.3, 0.8, 9}, {4, 14, 0.1}});
  const RunResult run = read_result(plan());
  ASSERT_EQ(run.evals.size(), 3u);
  EXPECT_DOUBLE_EQ(run.evals[1].gain_sd, 1.5);
  EXPECT_DOUBLE_EQ(run.evals[1].diversity_kept, 0.75);
  EXPECT_DOUBLE_EQ(run.evals[1].judge_change, 0.8 - 0.9);
  EXPECT_DOUBLE_EQ(run.evals[1].fd, 9);
  EXPECT_DOUBLE_EQ(run.evals[2].train_seconds, 8) << "four updates of 2 s";
  EXPECT_DOUBLE_EQ(run.evals[2].wall_seconds, 8 + 9) << "three evaluations of 3 s with them";
  EXPECT_DOUBLE_EQ(run.evals[1].rss_gib, 1.2);
  EXPECT_DOUBLE_EQ(run.cost.seconds_per_update, 2);
  EXPECT_DOUBLE_EQ(run.cost.images_per_second, 8);
  EXPECT_DOUBLE_EQ(run.cost.peak_gib, 1.5);
  EXPECT_THAT(run.cost.phases, ElementsAre(std::pair<std::string, double>("rollout", 1.5),
                                           std::pair<std::string, double>("policy", 0.5)));
  EXPECT_EQ(run.prompts, 20);
}

TEST_F(ReadingRuns, LeavesOutWhatARunBegunAgainTookBack) {
  write_fake_run(plan(), {{0, 10, 0.4}, {2, 99, 0.4}});
  {
    JsonLines more(plan().folder / "metrics.jsonl");
    more.write(testing::fake_eval({0, 10, 0.4}));
    for (int64_t u : {1, 2}) more.write(testing::fake_update(u));
    more.write(testing::fake_eval({2, 12, 0.4}));
  }
  const RunResult run = read_result(plan());
  ASSERT_EQ(run.evals.size(), 2u);
  EXPECT_EQ(run.evals[1].reward, 12);
  EXPECT_DOUBLE_EQ(run.evals[1].train_seconds, 4);
}

TEST_F(ReadingRuns, RefusesRunsWithoutNumbers) {
  write_fake_run(plan(), {{0, 10, 0.4}});
  write_text(plan().folder / "summary.json", "{");
  EXPECT_THAT(message_of([&] { read_result(plan()); }),
              HasSubstr("summary.json is damaged; remove it and run again"));
  write_text(plan().folder / "metrics.jsonl", "{\"kind\":\"eval\",\"update\":0}\n");
  EXPECT_THAT(message_of([&] { read_result(plan()); }),
              HasSubstr("metrics.jsonl holds no evaluation"));
}

class Selecting : public ReadingRuns {
 protected:
  // Arm a has two settings; setting 1 ends higher, setting 0 keeps more diversity.
  ComparisonConfig config(const std::string& select) const {
    return parse_comparison(fmt::format("{{out: {}, base: b, seeds: [0, 1], arms: [{{a: []}}, {{b: "
                                        "{{grid: {{}}}}}}], grid: {{lr: [1, 2]}}, select: {}}}",
                                        out_.string(), select),
                            "test");
  }
  void write(const ComparisonConfig& c, size_t setting, int64_t seed,
             const std::vector<FakeEval>& evals) {
    const PlannedRun run = planned_run(c, 0, setting, seed);
    write_fake_run(run, evals);
    results_.push_back(read_result(run));
  }
  void write_both(const ComparisonConfig& c) {
    for (const int64_t seed : {0, 1}) {
      write(c, 0, seed, {{0, 10, 0.4}, {2, 12, 0.39}, {4, 13, 0.36}});
      write(c, 1, seed, {{0, 10, 0.4}, {2, 11.5, 0.38}, {4, 16, 0.12}});
    }
  }
  std::vector<RunResult> results_;
};

TEST_F(Selecting, ByRewardTakesTheHigherLastReward) {
  const ComparisonConfig c = config("{by: reward}");
  write_both(c);
  const auto selections = select_settings(c, results_);
  EXPECT_EQ(selections[0].chosen, 1u);
  EXPECT_DOUBLE_EQ(selections[0].scores[1].score.mean, 16);
  EXPECT_DOUBLE_EQ(selections[0].scores[0].seconds, 2 * (8 + 9));
  EXPECT_EQ(selections[1].chosen, 0u) << "an arm of one setting needs no run to be chosen";
}

TEST_F(Selecting, ByRewardAtADiversityFloorLeavesOutEvaluationsBelowIt) {
  const ComparisonConfig c = config("{by: reward_at_diversity_floor, floor: 0.8}");
  write_both(c);
  const auto selections = select_settings(c, results_);
  EXPECT_EQ(selections[0].chosen, 0u);
  EXPECT_DOUBLE_EQ(selections[0].scores[0].score.mean, 13);
  EXPECT_DOUBLE_EQ(selections[0].scores[1].score.mean, 11.5);
}

TEST_F(Selecting, ByHypervolumeTakesTheLargerArea) {
  const ComparisonConfig c = config("{by: hypervolume}");
  write_both(c);
  const auto selections = select_settings(c, results_);
  // Gains 1 and 1.5 sd at 97.5 and 90 %; gains 0.75 and 3 sd at 95 and 30 %.
  EXPECT_NEAR(selections[0].scores[0].score.mean, 0.975 + 0.5 * 0.9, 1e-12);
  EXPECT_NEAR(selections[0].scores[1].score.mean, 0.75 * 0.95 + 2.25 * 0.3, 1e-12);
  EXPECT_EQ(selections[0].chosen, 0u);
}

// The judge falls by 10 points at the last evaluation of the setting that both choose without it.
TEST_F(Selecting, LeavesOutEvaluationsWhereTheJudgeFellTooFar) {
  for (const std::string by : {"hypervolume", "reward_at_diversity_floor"}) {
    results_.clear();
    const ComparisonConfig any = config("{by: " + by + "}"),
                           held = config("{by: " + by + ", judge_fall: 9}");
    for (const int64_t seed : {0, 1}) {
      write(any, 0, seed, {{0, 10, 0.4}, {2, 12, 0.39}});
      write(any, 1, seed, {{0, 10, 0.4}, {2, 11, 0.4}, {4, 16, 0.36, 0.8}});
    }
    EXPECT_EQ(select_settings(any, results_)[0].chosen, 1u) << by;
    EXPECT_EQ(select_settings(held, results_)[0].chosen, 0u) << by;
  }
}

TEST_F(Selecting, NeverTakesASettingThatDidNotFinishOnAllTuningSeeds) {
  const ComparisonConfig c = config("{by: reward}");
  for (const int64_t seed : {0, 1}) write(c, 0, seed, {{0, 10, 0.4}, {2, 11, 0.4}});
  write(c, 1, 0, {{0, 10, 0.4}, {2, 99, 0.4}});
  EXPECT_EQ(select_settings(c, results_)[0].chosen, 0u);
  results_.erase(results_.begin());
  EXPECT_FALSE(select_settings(c, results_)[0].chosen);
}

TEST_F(Selecting, LooksAtTuningSeedsOnlyAndTheTablesAtTheOthers) {
  const ComparisonConfig c = config("{by: reward, seeds: [7]}");
  write(c, 0, 7, {{0, 10, 0.4}, {2, 12, 0.4}});
  write(c, 1, 7, {{0, 10, 0.4}, {2, 11, 0.4}});
  write(c, 1, 0, {{0, 10, 0.4}, {2, 99, 0.4}});
  write(c, 0, 1, {{0, 10, 0.4}, {2, 13, 0.4}});
  EXPECT_EQ(select_settings(c, results_)[0].chosen, 0u);
  const auto table = table_results(c, results_, 0, 0);
  ASSERT_EQ(table.size(), 1u);
  EXPECT_EQ(table[0]->plan.seed, 1);
}

}  // namespace
}  // namespace vggflow
