#include "vggflow/experiments/comparison.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <map>
#include <numeric>

#include "vggflow/core/error.h"
#include "vggflow/core/json.h"
#include "vggflow/core/random.h"
#include "vggflow/io/files.h"
#include "vggflow/metrics/metrics.h"
#include "vggflow/report/page.h"

namespace vggflow {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
constexpr double kTiny = 1e-12;

double median(std::vector<double> values) {
  std::erase_if(values, [](double v) { return !std::isfinite(v); });
  if (values.empty()) return kNone;
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

// Lines of one kind by update; a line of update u takes back all that were written of u and later,
// as a run begun again does.
std::vector<Json> lines_of_kind(const std::vector<Json>& lines, const std::string& kind) {
  std::vector<Json> out;
  for (const Json& line : lines) {
    const double update = number(line, "/update");
    if (text(line, "kind") != kind || !std::isfinite(update)) continue;
    while (!out.empty() && number(out.back(), "/update") >= update) out.pop_back();
    out.push_back(line);
  }
  return out;
}

// Seconds of an update's phases; an evaluation among them is left out.
std::vector<std::pair<std::string, double>> phases_of(const Json& update) {
  std::vector<std::pair<std::string, double>> out;
  if (!update.contains("seconds") || !update["seconds"].is_object()) return out;
  for (const auto& [name, seconds] : update["seconds"].items()) {
    if (seconds.is_number() && name != "evaluation") out.emplace_back(name, seconds.get<double>());
  }
  return out;
}

double update_seconds(const Json& update) {
  double sum = 0;
  for (const auto& [name, seconds] : phases_of(update)) sum += seconds;
  return sum;
}

RunCost cost_of(const std::vector<Json>& updates, const Json& summary) {
  std::vector<double> totals, rates;
  std::vector<std::string> names;
  std::map<std::string, std::vector<double>> by_phase;
  for (const Json& u : updates) {
    for (const auto& [name, seconds] : phases_of(u)) {
      if (!by_phase.count(name)) names.push_back(name);
      by_phase[name].push_back(seconds);
    }
    totals.push_back(update_seconds(u));
    rates.push_back(number(u, "/images_per_second"));
  }
  RunCost cost{median(totals), median(rates), number(summary, "/peak_gib"), {}};
  for (const std::string& name : names) cost.phases.emplace_back(name, median(by_phase[name]));
  return cost;
}

EvalPoint point_of(const Json& line, const Json& base) {
  const Json& m = line["metrics"];
  EvalPoint p;
  p.update = number(line, "/update");
  p.reward = number(m, "/reward/mean");
  p.gain_sd = (p.reward - number(base, "/reward/mean")) /
              std::max(kTiny, number(base, "/reward_sd_within_prompt"));
  p.judge = number(m, "/judge_accuracy/mean");
  p.judge_change = number(m, "/judge_change/mean");
  p.diversity = number(m, "/diversity/mean");
  // Runs of earlier programs have the ratio of the means alone.
  p.diversity_kept = m.contains("diversity_kept")
                         ? number(m, "/diversity_kept")
                         : p.diversity / std::max(kTiny, number(base, "/diversity/mean"));
  p.fd = number(m, "/fd");
  p.kid = number(m, "/kid");
  p.saturated = number(m, "/saturated");
  p.metrics = m;
  return p;
}

// Seconds and memory until each evaluation.
void add_costs_so_far(std::vector<EvalPoint>& evals, const std::vector<Json>& lines,
                      const std::vector<Json>& updates) {
  double train = 0, evaluating = 0, rss = kNone;
  size_t next = 0;
  for (size_t i = 0; i < evals.size(); ++i) {
    for (; next < updates.size() && number(updates[next], "/update") <= evals[i].update; ++next) {
      train += update_seconds(updates[next]);
      rss = std::fmax(rss, number(updates[next], "/rss_gib"));
    }
    const double seconds = number(lines[i], "/seconds");
    if (std::isfinite(seconds)) evaluating += seconds;
    evals[i].train_seconds = train;
    evals[i].wall_seconds = train + evaluating;
    evals[i].rss_gib = rss;
  }
}

double cross(double from, double to, double level) {
  return to == from ? 0 : (level - from) / (to - from);
}

const std::vector<Metric> kMeaned{&EvalPoint::train_seconds,
                                  &EvalPoint::wall_seconds,
                                  &EvalPoint::reward,
                                  &EvalPoint::gain_sd,
                                  &EvalPoint::judge,
                                  &EvalPoint::judge_change,
                                  &EvalPoint::diversity,
                                  &EvalPoint::diversity_kept,
                                  &EvalPoint::fd,
                                  &EvalPoint::kid};

}  // namespace

RunResult read_result(const PlannedRun& plan) {
  const std::vector<Json> lines = read_json_lines(plan.folder / "metrics.jsonl");
  const std::vector<Json> updates = lines_of_kind(lines, "update");
  std::vector<Json> evals = lines_of_kind(lines, "eval");
  std::erase_if(evals,
                [](const Json& e) { return !e.contains("metrics") || !e["metrics"].is_object(); });
  VGGFLOW_CHECK(!evals.empty(), "[compare] {} holds no evaluation",
                (plan.folder / "metrics.jsonl").string());
  RunResult out{plan,
                {},
                {},
                try_parse_json(read_text(plan.folder / "summary.json")),
                number(evals.front(), "/prompts"),
                number(evals.front(), "/images_per_prompt"),
                prompt_words(evals.front())};
  VGGFLOW_CHECK(out.summary.is_object(), "[compare] {} is damaged; remove it and run again",
                (plan.folder / "summary.json").string());
  for (const Json& e : evals) out.evals.push_back(point_of(e, evals.front()["metrics"]));
  add_costs_so_far(out.evals, evals, updates);
  out.cost = cost_of(updates, out.summary);
  return out;
}

Spread spread(std::span<const double> values) {
  std::vector<double> finite;
  std::copy_if(values.begin(), values.end(), std::back_inserter(finite),
               [](double v) { return std::isfinite(v); });
  if (finite.empty()) return {kNone, kNone, 0};
  const Estimate e = estimate(finite);
  return {e.mean, e.se.value_or(kNone), finite.size()};
}

double at_reward(std::span<const EvalPoint> evals, double level, Metric metric) {
  for (size_t i = 0; i < evals.size(); ++i) {
    if (!(evals[i].reward >= level)) continue;
    if (i == 0) return evals[0].*metric;
    const double share = cross(evals[i - 1].reward, evals[i].reward, level);
    return evals[i - 1].*metric + share * (evals[i].*metric - evals[i - 1].*metric);
  }
  return kNone;
}

double common_reward(std::span<const RunResult* const> runs) {
  double level = std::numeric_limits<double>::infinity();
  for (const RunResult* run : runs) {
    double best = -std::numeric_limits<double>::infinity();
    for (const EvalPoint& e : run->evals) best = std::fmax(best, e.reward);
    level = std::min(level, best);
  }
  return std::isfinite(level) ? level : kNone;
}

std::vector<EvalPoint> mean_trajectory(std::span<const RunResult* const> runs) {
  std::map<double, std::vector<const EvalPoint*>> by_update;
  for (const RunResult* run : runs) {
    for (const EvalPoint& e : run->evals) by_update[e.update].push_back(&e);
  }
  std::vector<EvalPoint> out;
  for (const auto& [update, points] : by_update) {
    EvalPoint mean;
    mean.update = update;
    for (const Metric m : kMeaned) {
      std::vector<double> values;
      for (const EvalPoint* p : points) values.push_back(p->*m);
      mean.*m = spread(values).mean;
    }
    out.push_back(mean);
  }
  return out;
}

std::optional<double> reward_at_diversity(std::span<const EvalPoint> evals, double share) {
  for (size_t i = 1; i < evals.size(); ++i) {
    const EvalPoint &a = evals[i - 1], &b = evals[i];
    if (a.diversity_kept >= share && b.diversity_kept < share) {
      return a.reward + cross(a.diversity_kept, b.diversity_kept, share) * (b.reward - a.reward);
    }
  }
  return std::nullopt;
}

std::vector<Point2> pareto_front(std::span<const Point2> points) {
  std::vector<Point2> sorted;
  std::copy_if(points.begin(), points.end(), std::back_inserter(sorted),
               [](const Point2& p) { return std::isfinite(p[0]) && std::isfinite(p[1]); });
  std::sort(sorted.begin(), sorted.end(),
            std::greater<>());  // falling first axis, then falling second
  std::vector<Point2> front;
  for (const Point2& p : sorted) {
    if (front.empty() || p[1] > front.back()[1]) front.push_back(p);
  }
  std::reverse(front.begin(), front.end());
  return front;
}

double hypervolume(std::span<const Point2> points, const Point2& edge) {
  std::vector<Point2> inside;
  for (const Point2& p : points) {
    if (p[0] > 0 && p[1] > 0) inside.push_back({std::min(p[0], edge[0]), std::min(p[1], edge[1])});
  }
  double area = 0, left = 0;
  for (const Point2& p : pareto_front(inside)) {
    area += (p[0] - left) * p[1];
    left = p[0];
  }
  return area;
}

BootstrapInterval bootstrap_interval(
    const std::vector<std::vector<Point2>>& groups,
    const std::function<double(std::span<const Point2>)>& statistic, uint64_t seed,
    int64_t resamples) {
  VGGFLOW_CHECK(!groups.empty() && resamples > 0,
                "[bootstrap] expected groups and resamples, got {} and {}", groups.size(),
                resamples);
  std::vector<double> values;
  std::vector<Point2> drawn;
  for (int64_t r = 0; r < resamples; ++r) {
    RandomStream random({seed, Purpose::kMetric, static_cast<uint64_t>(r), 0});
    drawn.clear();
    for (size_t g = 0; g < groups.size(); ++g) {
      const auto& group =
          groups[static_cast<size_t>(random.below(static_cast<int64_t>(groups.size())))];
      for (size_t i = 0; i < group.size(); ++i)
        drawn.push_back(
            group[static_cast<size_t>(random.below(static_cast<int64_t>(group.size())))]);
    }
    values.push_back(statistic(drawn));
  }
  std::sort(values.begin(), values.end());
  const auto quantile = [&](double q) {
    return values[static_cast<size_t>(std::llround(q * static_cast<double>(values.size() - 1)))];
  };
  return {quantile(0.025), quantile(0.975)};
}

Point2 box_edge(const HypervolumeBox& box, std::span<const RunResult* const> runs) {
  if (box.gain_sd > 0) return {box.gain_sd, box.diversity_kept};
  double largest = 0;
  for (const RunResult* run : runs) {
    for (const EvalPoint& e : run->evals) largest = std::fmax(largest, e.gain_sd);
  }
  return {std::max(0.5, std::ceil(2 * largest) / 2), box.diversity_kept};
}

std::vector<Point2> gain_and_diversity(std::span<const EvalPoint> evals) {
  std::vector<Point2> out;
  for (const EvalPoint& e : evals) out.push_back({e.gain_sd, e.diversity_kept});
  return out;
}

double selection_score(const RunResult& run, const SelectOptions& select, const Point2& edge) {
  std::vector<EvalPoint> counted;
  for (const EvalPoint& e : run.evals) {
    // Without a judge its change is no number.
    if (!select.judge_fall || !(100 * e.judge_change < -*select.judge_fall)) counted.push_back(e);
  }
  switch (select.by) {
    case SelectBy::kReward:
      return run.evals.back().reward;
    case SelectBy::kHypervolume:
      return hypervolume(gain_and_diversity(counted), edge);
    case SelectBy::kRewardAtDiversityFloor: {
      double best = kNone;
      for (const EvalPoint& e : counted) {
        if (e.diversity_kept >= select.floor) best = std::fmax(best, e.reward);
      }
      return best;
    }
  }
  fail("[compare] expected a known select.by, got {}", static_cast<int>(select.by));
}

namespace {

SettingScore score_setting(const ComparisonConfig& config,
                           const std::vector<const RunResult*>& runs, const Point2& edge) {
  std::vector<double> score, reward, kept, judge, fd;
  SettingScore out;
  for (const RunResult* run : runs) {
    const EvalPoint& last = run->evals.back();
    score.push_back(selection_score(*run, config.select, edge));
    reward.push_back(last.reward);
    kept.push_back(last.diversity_kept);
    judge.push_back(last.judge);
    fd.push_back(last.fd);
    out.seconds += last.wall_seconds;
  }
  out.score = spread(score);
  out.reward = spread(reward);
  out.diversity_kept = spread(kept);
  out.judge = spread(judge);
  out.fd = spread(fd);
  out.complete = out.score.n == config.tuning_seeds().size();
  return out;
}

std::vector<const RunResult*> results_of(const std::vector<RunResult>& results, size_t arm,
                                         size_t setting, const std::vector<int64_t>& seeds) {
  std::vector<const RunResult*> out;
  for (const RunResult& r : results) {
    if (r.plan.arm == arm && r.plan.setting == setting &&
        std::find(seeds.begin(), seeds.end(), r.plan.seed) != seeds.end())
      out.push_back(&r);
  }
  return out;
}

}  // namespace

std::vector<ArmSelection> select_settings(const ComparisonConfig& config,
                                          const std::vector<RunResult>& results) {
  std::vector<const RunResult*> all;
  for (const RunResult& r : results) all.push_back(&r);
  const Point2 edge = box_edge(config.box, all);
  std::vector<ArmSelection> out;
  for (size_t arm = 0; arm < config.arms.size(); ++arm) {
    ArmSelection selection;
    for (size_t s = 0; s < config.arms[arm].settings.size(); ++s) {
      selection.scores.push_back(
          score_setting(config, results_of(results, arm, s, config.tuning_seeds()), edge));
      const SettingScore& now = selection.scores.back();
      if (now.complete &&
          (!selection.chosen || now.score.mean > selection.scores[*selection.chosen].score.mean))
        selection.chosen = s;
    }
    if (config.arms[arm].settings.size() == 1) selection.chosen = 0;
    out.push_back(selection);
  }
  return out;
}

std::vector<std::optional<size_t>> chosen_settings(const std::vector<ArmSelection>& selections) {
  std::vector<std::optional<size_t>> out;
  for (const ArmSelection& s : selections) out.push_back(s.chosen);
  return out;
}

std::vector<const RunResult*> table_results(const ComparisonConfig& config,
                                            const std::vector<RunResult>& results, size_t arm,
                                            std::optional<size_t> setting) {
  return setting ? results_of(results, arm, *setting, config.seeds)
                 : std::vector<const RunResult*>{};
}

}  // namespace vggflow
