#include "vggflow/experiments/comparison_tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <span>
#include <tuple>

#include "vggflow/core/error.h"
#include "vggflow/core/listing.h"
#include "vggflow/report/page.h"

namespace vggflow {
namespace {

constexpr double kHalf = 0.5;  // of the base's diversity

// f of each run of an arm, over seeds.
template <class F>
Spread over_runs(const std::vector<const RunResult*>& runs, F f) {
  std::vector<double> values;
  for (const RunResult* run : runs) values.push_back(f(*run));
  return spread(values);
}

std::string setting_name(const ComparisonView& view, size_t arm) {
  const auto& settings = view.data.config.arms[arm].settings;
  const auto chosen = view.data.selections[arm].chosen;
  return settings.size() == 1 ? "–" : chosen ? settings[*chosen].name : "none chosen";
}

std::string count_of(size_t n, size_t all) {
  return n == all ? fmt::to_string(n) : fmt::format("{} of {}", n, all);
}

std::vector<std::string> list_of(const std::set<std::string>& words) {
  return {words.begin(), words.end()};
}

}  // namespace

ComparisonView::ComparisonView(const ComparisonData& from) : data(from) {
  for (size_t arm = 0; arm < from.config.arms.size(); ++arm) {
    runs.push_back(table_results(from.config, from.results, arm, from.selections[arm].chosen));
    all.insert(all.end(), runs.back().begin(), runs.back().end());
  }
  edge = box_edge(from.config.box, all);
}

std::string shown(const Spread& s, int digits, double factor) {
  const std::string mean = shown(factor * s.mean, digits);
  return s.n > 1 ? mean + " ± " + shown(factor * s.se, digits) : mean;
}

Spread at_last(const std::vector<const RunResult*>& runs, Metric metric) {
  return over_runs(runs, [&](const RunResult& r) { return r.evals.back().*metric; });
}

ReportTable last_update_table(const ComparisonView& view) {
  ReportTable t{"After the last update",
                "Mean ± standard error over seeds. The gain is in standard deviations of the "
                "base's rewards within a prompt; the judge's change is paired "
                "by prompt; of the base, FD and KID are the floor (base against base).",
                {"arm", "setting", "seeds", "reward", "gain (sd)", "judge %", "change (points)",
                 "diversity kept %", "FD", "KID"},
                {}};
  if (const RunResult* run = view.first()) {
    const EvalPoint& base = run->evals.front();
    t.rows.push_back(
        {{"base model", "–", "–", shown(base.reward, 3), shown(0, 2), shown(100 * base.judge, 1),
          shown(0, 1), "100", shown(number(base.metrics, "/fd_floor"), 2),
          shown(number(base.metrics, "/kid_floor"), 4)}});
  }
  for (size_t arm = 0; arm < view.runs.size(); ++arm) {
    const auto& runs = view.runs[arm];
    const auto last = [&](Metric m, int digits, double factor = 1) {
      return shown(at_last(runs, m), digits, factor);
    };
    t.rows.push_back(
        {{view.name(arm), setting_name(view, arm),
          count_of(runs.size(), view.data.config.seeds.size()), last(&EvalPoint::reward, 3),
          last(&EvalPoint::gain_sd, 2), last(&EvalPoint::judge, 1, 100),
          last(&EvalPoint::judge_change, 1, 100), last(&EvalPoint::diversity_kept, 1, 100),
          last(&EvalPoint::fd, 2), last(&EvalPoint::kid, 4)},
         static_cast<int>(arm)});
  }
  return t;
}

ReportTable panel_table(const ComparisonView& view) {
  std::vector<std::string> names;
  for (const RunResult* run : view.all) {
    const Json& m = run->evals.back().metrics;
    if (!m.contains("panel") || !m["panel"].is_object()) continue;
    for (const auto& [name, value] : m["panel"].items()) {
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    }
  }
  ReportTable t{
      "Other rewards after the last update",
      "Rewards that were not trained on, on the same images; mean ± standard error over seeds.",
      {"arm"},
      {}};
  t.head.insert(t.head.end(), names.begin(), names.end());
  const auto value = [](const Json& metrics, const std::string& name) {
    return metrics.contains("panel") && metrics["panel"].is_object() &&
                   metrics["panel"].contains(name)
               ? number(metrics["panel"][name], "/mean")
               : std::nan("");
  };
  if (names.empty()) return t;
  ReportTable::Row base{{"base model"}};
  for (const std::string& name : names)
    base.cells.push_back(shown(value(view.first()->evals.front().metrics, name), 3));
  t.rows.push_back(base);
  for (size_t arm = 0; arm < view.runs.size(); ++arm) {
    ReportTable::Row row{{view.name(arm)}, static_cast<int>(arm)};
    for (const std::string& name : names) {
      row.cells.push_back(
          shown(over_runs(view.runs[arm],
                          [&](const RunResult& r) { return value(r.evals.back().metrics, name); }),
                3));
    }
    t.rows.push_back(row);
  }
  return t;
}

namespace {

ReportTable at_reward_table(const ComparisonView& view, double level, const std::string& title,
                            const std::string& note) {
  const RunResult& first = *view.first();
  const double gain =
      (level - first.evals.front().reward) /
      std::max(1e-12, number(first.evals.front().metrics, "/reward_sd_within_prompt"));
  ReportTable t{fmt::format("{}: {:.3f} ({:+.2f} sd)", title, level, gain),
                note,
                {"arm", "seeds that reach it", "update", "seconds of training", "diversity kept %",
                 "FD", "judge %"},
                {}};
  for (size_t arm = 0; arm < view.runs.size(); ++arm) {
    const auto& runs = view.runs[arm];
    const auto there = [&](Metric m) {
      return over_runs(runs, [&](const RunResult& r) { return at_reward(r.evals, level, m); });
    };
    const Spread kept = there(&EvalPoint::diversity_kept);
    ReportTable::Row row{{view.name(arm), fmt::format("{} of {}", kept.n, runs.size())},
                         static_cast<int>(arm)};
    if (kept.n == 0) {
      double best = -std::numeric_limits<double>::infinity();
      for (const RunResult* r : runs) best = std::max(best, common_reward(std::span(&r, 1)));
      row.cells.push_back(runs.empty() ? "no finished run"
                                       : fmt::format("not reached: {:.3f} at most", best));
      row.cells.resize(t.head.size(), "–");
    } else {
      for (const auto& [metric, digits, factor] : {std::tuple{&EvalPoint::update, 1, 1.0},
                                                   {&EvalPoint::train_seconds, 0, 1.0},
                                                   {&EvalPoint::diversity_kept, 1, 100.0},
                                                   {&EvalPoint::fd, 2, 1.0},
                                                   {&EvalPoint::judge, 1, 100.0}}) {
        row.cells.push_back(shown(there(metric), digits, factor));
      }
    }
    t.rows.push_back(row);
  }
  return t;
}

}  // namespace

std::vector<ReportTable> equal_reward_tables(const ComparisonView& view) {
  std::vector<ReportTable> out;
  if (view.all.empty()) return out;
  out.push_back(at_reward_table(view, common_reward(view.all),
                                "At the largest reward that every run reaches",
                                "Along each run's evaluations, linear between two, where the "
                                "reward first reaches this level; then mean ± standard error "
                                "over seeds."));
  std::vector<std::string> never;
  for (size_t arm = 0; arm < view.runs.size(); ++arm) {
    const auto level = reward_at_diversity(mean_trajectory(view.runs[arm]), kHalf);
    if (!level) {
      if (!view.runs[arm].empty()) never.push_back(view.name(arm));
      continue;
    }
    out.push_back(at_reward_table(
        view, *level,
        fmt::format("At the reward where {} has lost half of the base's diversity", view.name(arm)),
        "The reward at which this arm's mean trajectory first falls below 50 % of the base's "
        "diversity, and what the others "
        "keep there. An arm that some of its seeds do not reach it with is averaged over those "
        "that do."));
  }
  ReportTable none{never.size() == view.runs.size()
                       ? "No arm loses half of the base's diversity"
                       : "Arms that never lose half of the base's diversity",
                   "",
                   {},
                   {}};
  none.note = fmt::format(
      "The mean trajectory of {} stays above 50 % of the base's diversity, so there is no such "
      "reward to compare at.",
      fmt::join(never, ", "));
  if (!never.empty()) out.push_back(none);
  return out;
}

ReportTable hypervolume_table(const ComparisonView& view) {
  ReportTable t{
      "Hypervolume of the Pareto fronts",
      fmt::format(
          "Area that an arm's evaluations dominate in (reward gain in sd, diversity kept), from "
          "(0, 0), clipped to a box of {:.2g} sd x {:.0f} %. "
          "The interval is the 95 % percentile bootstrap over seeds and their evaluations (2000 "
          "keyed resamples); a resample holds only "
          "some of the points, so the interval lies below the estimate rather than around it.",
          view.edge[0], 100 * view.edge[1]),
      {"arm", "all seeds together", "95 % interval", "one seed alone", "points on the front"},
      {}};
  const auto area = [&](std::span<const Point2> points) { return hypervolume(points, view.edge); };
  for (size_t arm = 0; arm < view.runs.size(); ++arm) {
    std::vector<std::vector<Point2>> groups;
    std::vector<Point2> points;
    for (const RunResult* run : view.runs[arm]) {
      groups.push_back(gain_and_diversity(run->evals));
      points.insert(points.end(), groups.back().begin(), groups.back().end());
    }
    ReportTable::Row row{{view.name(arm)}, static_cast<int>(arm)};
    if (groups.empty()) {
      row.cells.resize(t.head.size(), "–");
    } else {
      const BootstrapInterval interval = bootstrap_interval(groups, area, /*seed=*/arm);
      const Spread alone = over_runs(
          view.runs[arm], [&](const RunResult& r) { return area(gain_and_diversity(r.evals)); });
      row.cells.insert(
          row.cells.end(),
          {shown(area(points), 3), fmt::format("{:.3f} to {:.3f}", interval.low, interval.high),
           shown(alone, 3), fmt::to_string(pareto_front(points).size())});
    }
    t.rows.push_back(row);
  }
  return t;
}

namespace {

std::string phases_text(const std::vector<const RunResult*>& runs) {
  std::vector<std::string> parts;
  if (runs.empty()) return "–";
  for (const auto& [name, seconds] : runs.front()->cost.phases)
    parts.push_back(fmt::format("{} {:.2f}", name, seconds));
  return parts.empty() ? "–" : fmt::format("{}", fmt::join(parts, ", "));
}

std::string passes_text(const Json& summary) {
  std::vector<std::string> parts;
  if (summary.contains("passes") && summary["passes"].is_object()) {
    for (const auto& [name, count] : summary["passes"].items()) {
      if (count.is_number()) parts.push_back(fmt::format("{} {:g}", name, count.get<double>()));
    }
  }
  return parts.empty() ? "–" : fmt::format("{}", fmt::join(parts, ", "));
}

}  // namespace

ReportTable cost_table(const ComparisonView& view) {
  ReportTable t{
      "Cost",
      "Seconds of an update (median of a run, evaluation left out), images per second, and "
      "the process's peak memory: mean ± standard error over "
      "seeds, largest peak. Phases and counted network passes are those of the first "
      "seed's updates.",
      {"arm", "s / update", "images / s", "peak GiB", "s / run", "phases (s)", "network passes",
       "formula"},
      {}};
  for (size_t arm = 0; arm < view.runs.size(); ++arm) {
    const auto& runs = view.runs[arm];
    double peak = std::nan("");
    for (const RunResult* r : runs) peak = std::fmax(peak, r->cost.peak_gib);
    t.rows.push_back(
        {{view.name(arm),
          shown(over_runs(runs, [](const RunResult& r) { return r.cost.seconds_per_update; }), 2),
          shown(over_runs(runs, [](const RunResult& r) { return r.cost.images_per_second; }), 1),
          shown(peak, 2), shown(at_last(runs, &EvalPoint::wall_seconds), 0), phases_text(runs),
          runs.empty() ? "–" : passes_text(runs.front()->summary),
          runs.empty() ? "–" : text(runs.front()->summary, "cost_formula", "–")},
         static_cast<int>(arm)});
  }
  return t;
}

namespace {

std::string chosen_by(const SelectOptions& select) {
  const std::string judge =
      select.judge_fall
          ? fmt::format(", where the judge fell by {:g} points at most", *select.judge_fall)
          : "";
  switch (select.by) {
    case SelectBy::kReward:
      return "the last evaluation's reward";
    case SelectBy::kHypervolume:
      return "hypervolume" + judge;
    case SelectBy::kRewardAtDiversityFloor:
      return fmt::format(
          "the largest reward among evaluations that keep {:.0f} % of the base's diversity{}",
          100 * select.floor, judge);
  }
  fail("[compare] expected a known select.by, got {}", static_cast<int>(select.by));
}

}  // namespace

ReportTable tuning_table(const ComparisonView& view) {
  const ComparisonConfig& c = view.data.config;
  const std::string by = chosen_by(c.select);
  ReportTable t{"Tuning effort",
                fmt::format("Settings tried by arm, on seeds {}; chosen by {}, averaged over these "
                            "seeds. A setting counts only if all of its "
                            "tuning runs are finished.",
                            fmt::join(c.tuning_seeds(), ", "), by),
                {"arm", "setting", "tuning seeds", "score", "reward", "diversity kept %", "judge %",
                 "FD", "s", "chosen"},
                {}};
  if (!c.tunes()) {
    t.note = "Every arm has one setting: nothing was tuned here.";
    t.head.clear();
    return t;
  }
  for (size_t arm = 0; arm < c.arms.size(); ++arm) {
    const ArmSelection& selection = view.data.selections[arm];
    for (size_t s = 0; s < selection.scores.size(); ++s) {
      const SettingScore& score = selection.scores[s];
      const bool chosen = selection.chosen == s;
      t.rows.push_back({{view.name(arm), c.arms[arm].settings[s].name,
                         count_of(score.score.n, c.tuning_seeds().size()), shown(score.score, 3),
                         shown(score.reward, 3), shown(score.diversity_kept, 1, 100),
                         shown(score.judge, 1, 100), shown(score.fd, 2), shown(score.seconds, 0),
                         selection.scores.size() == 1 ? "the only one"
                         : chosen                     ? "yes"
                                                      : ""},
                        static_cast<int>(arm),
                        chosen});
    }
  }
  return t;
}

namespace {

void warn_of_unequal_arms(const ComparisonView& view, std::vector<std::string>& out) {
  const ComparisonConfig& c = view.data.config;
  std::set<std::string> efforts, rewards, bases, protocols;
  std::vector<std::string> counts;
  for (const ComparisonArm& arm : c.arms) {
    efforts.insert(fmt::to_string(arm.settings.size()));
    counts.push_back(fmt::format("{} {}", arm.name, arm.settings.size()));
  }
  if (efforts.size() > 1)
    out.push_back(
        fmt::format("Unequal tuning effort, settings tried by arm: {}", fmt::join(counts, ", ")));
  for (const RunResult* run : view.all) {
    rewards.insert(text(run->summary, "reward", "unknown"));
    bases.insert(fmt::format("{:.6g}", run->evals.front().reward));
    protocols.insert(fmt::format("{:g} x {:g}", run->prompts, run->images_per_prompt));
  }
  if (rewards.size() > 1)
    out.push_back(
        fmt::format("The arms were trained on different rewards ({}): their rewards do not compare",
                    fmt::join(list_of(rewards), "; ")));
  if (bases.size() > 1)
    out.push_back(fmt::format(
        "The runs do not share the base evaluation (rewards {}): their rewards do not compare",
        fmt::join(list_of(bases), ", ")));
  if (protocols.size() > 1)
    out.push_back(
        fmt::format("The runs were evaluated on different numbers of prompts x images: {}",
                    fmt::join(list_of(protocols), ", ")));
}

void warn_of_seeds(const ComparisonView& view, std::vector<std::string>& out) {
  const ComparisonConfig& c = view.data.config;
  if (c.seeds.size() == 1) out.push_back("One seed: there are no errors over seeds");
  std::vector<int64_t> both;
  for (const int64_t seed : c.tuning_seeds()) {
    if (std::find(c.seeds.begin(), c.seeds.end(), seed) != c.seeds.end()) both.push_back(seed);
  }
  if (c.tunes() && !both.empty()) {
    out.push_back(
        fmt::format("The settings were chosen on seed{} {}, which the tables hold too: the chosen "
                    "settings look better there than they are. seeds: "
                    "and select.seeds: without a common one keep them apart",
                    both.size() > 1 ? "s" : "", fmt::join(both, ", ")));
  }
}

}  // namespace

std::vector<std::string> comparison_warnings(const ComparisonView& view) {
  std::vector<std::string> out;
  for (const RunFailure& f : view.data.failures)
    out.push_back(fmt::format("Failed: {}: {}", f.label, f.error));
  if (!view.data.open.empty())
    out.push_back(fmt::format("Not done yet, {}: {}", count_of(view.data.open.size(), "run"),
                              fmt::join(view.data.open, "; ")));
  for (size_t arm = 0; arm < view.runs.size(); ++arm) {
    if (!view.data.selections[arm].chosen)
      out.push_back(fmt::format(
          "Missing: {} has no setting that finished on all tuning seeds, so none is chosen",
          view.name(arm)));
    else if (view.runs[arm].empty())
      out.push_back(fmt::format("Missing: {} has no finished run", view.name(arm)));
  }
  for (const RunResult* run : view.all) {
    if (run->evals.size() == 1)
      out.push_back(fmt::format("Missing: {} has no evaluation after the base's", run->plan.label));
  }
  warn_of_seeds(view, out);
  warn_of_unequal_arms(view, out);
  return out;
}

}  // namespace vggflow
