#pragma once
// The analysis of a comparison: what runs measured, read from their folders; equal rewards by
// interpolation, Pareto fronts, hypervolumes, bootstrap intervals, and the choice of a setting. No
// HTML and no processes.

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "vggflow/experiments/comparison_config.h"
#include "vggflow/io/jsonl.h"

namespace vggflow {

/// One evaluation of a run; what the folder does not hold is not a number.
struct EvalPoint {
  double update = 0;
  double train_seconds = 0;  ///< of the updates so far, evaluations left out
  double wall_seconds = 0;   ///< with evaluations
  double rss_gib = 0;        ///< largest so far
  double reward = 0,
         gain_sd = 0;  ///< gain over the base in sd of the base's rewards within a prompt
  double judge = 0, judge_change = 0, diversity = 0, diversity_kept = 0, fd = 0, kid = 0,
         saturated = 0;
  Json metrics;  ///< all of the line's metrics
};
using Metric = double EvalPoint::*;

struct RunCost {
  double seconds_per_update = 0, images_per_second = 0,
         peak_gib = 0;  ///< medians over updates; the peak of the process
  std::vector<std::pair<std::string, double>> phases;  ///< median seconds of an update by phase
};

struct RunResult {
  PlannedRun plan;
  std::vector<EvalPoint> evals;  ///< by update, the base first
  RunCost cost;
  Json summary;
  double prompts = 0, images_per_prompt = 0;  ///< of its evaluations
  std::string prompt_words = "prompts";  ///< "held-out prompts", "training prompts", or "prompts"
                                         ///< where the run does not say
};

/// Reads a finished run. Lines of updates that a later line takes back (a run begun again) are left
/// out. Throws where there is no evaluation or no readable summary.json.
RunResult read_result(const PlannedRun& plan);

/// Mean and standard error (not a number of fewer than two) over seeds of the values that are
/// finite, and how many they are.
struct Spread {
  double mean = 0, se = 0;
  size_t n = 0;
};
Spread spread(std::span<const double> values);

/// `metric` where the reward first reaches `level` along a run's evaluations, linear between two;
/// not a number if it never does.
double at_reward(std::span<const EvalPoint> evals, double level, Metric metric);

/// The largest reward that each of these runs reaches.
double common_reward(std::span<const RunResult* const> runs);

/// Evaluations by update, each metric the mean over the runs that have this update.
std::vector<EvalPoint> mean_trajectory(std::span<const RunResult* const> runs);

/// The reward at which a trajectory's diversity kept first falls below `share`; nothing if it does
/// not.
std::optional<double> reward_at_diversity(std::span<const EvalPoint> evals, double share);

/// Points of which more is better on both axes.
using Point2 = std::array<double, 2>;

/// The points that no other one dominates (is at least as good on both axes and better on one), by
/// rising first axis; equal points once, points that are not finite never.
std::vector<Point2> pareto_front(std::span<const Point2> points);

/// Area that the points dominate within the box from (0, 0) to `edge`; points outside are moved to
/// its edge.
double hypervolume(std::span<const Point2> points, const Point2& edge);

struct BootstrapInterval {
  double low = 0, high = 0;
};
/// 95 % percentile interval of `statistic` over resamples: groups (seeds) are drawn with
/// replacement, and within each its points (evaluations). The draws are keyed by `seed`
/// (Purpose::kMetric), so the same data give the same interval.
BootstrapInterval bootstrap_interval(
    const std::vector<std::vector<Point2>>& groups,
    const std::function<double(std::span<const Point2>)>& statistic, uint64_t seed,
    int64_t resamples = 2000);

/// The box with its automatic edge filled in from these runs.
Point2 box_edge(const HypervolumeBox& box, std::span<const RunResult* const> runs);

/// Evaluations as (reward gain in sd, diversity kept).
std::vector<Point2> gain_and_diversity(std::span<const EvalPoint> evals);

/// What select.by measures of one run; more is better.
double selection_score(const RunResult& run, const SelectOptions& select, const Point2& edge);

/// How one setting did in tuning.
struct SettingScore {
  Spread score;                              ///< over the tuning seeds that are finished
  Spread reward, diversity_kept, judge, fd;  ///< of the last evaluations
  double seconds = 0;                        ///< spent on its tuning runs
  bool complete = false;  ///< whether every tuning seed is finished: else it is not chosen
};
struct ArmSelection {
  std::vector<SettingScore> scores;  ///< one a setting
  std::optional<size_t>
      chosen;  ///< the best complete setting; the only one of an arm without a choice
};
/// The choice of each arm from the finished runs.
std::vector<ArmSelection> select_settings(const ComparisonConfig& config,
                                          const std::vector<RunResult>& results);
/// Only the chosen settings.
std::vector<std::optional<size_t>> chosen_settings(const std::vector<ArmSelection>& selections);

/// The finished runs of an arm's chosen setting on the comparison's seeds.
std::vector<const RunResult*> table_results(const ComparisonConfig& config,
                                            const std::vector<RunResult>& results, size_t arm,
                                            std::optional<size_t> setting);

}  // namespace vggflow
