#include "vggflow/experiments/comparison_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <system_error>
#include <utility>
#include <vector>

#include "vggflow/core/error.h"
#include "vggflow/core/secret.h"
#include "vggflow/core/shell_word.h"
#include "vggflow/experiments/comparison_tables.h"
#include "vggflow/io/files.h"
#include "vggflow/report/page.h"
#include "vggflow/report/plot.h"

namespace vggflow {
namespace fs = std::filesystem;
namespace {

// ---- tables
// ----------------------------------------------------------------------------------------------------------

std::string swatch(int arm) {
  return arm < 0
             ? ""
             : fmt::format("<span class='swatch b{}'></span>", static_cast<size_t>(arm) % kColours);
}

std::string table_html(const ReportTable& t) {
  std::string out = "<h3>" + escape_html(t.title) + "</h3>";
  if (!t.rows.empty()) {
    out += "<div class='box scroll tight'><table><tr>";
    for (const std::string& h : t.head) out += "<th>" + escape_html(h) + "</th>";
    for (const ReportTable::Row& row : t.rows) {
      out += row.chosen ? "</tr><tr class='chosen'>" : "</tr><tr>";
      for (size_t i = 0; i < row.cells.size(); ++i)
        out +=
            fmt::format("<td>{}{}</td>", i == 0 ? swatch(row.arm) : "", escape_html(row.cells[i]));
    }
    out += "</tr></table></div>";
  }
  return t.note.empty() ? out : out + "<p class='note'>" + escape_html(t.note) + "</p>";
}

std::string cells_markdown(const std::vector<std::string>& cells) {
  std::string out = "|";
  for (const std::string& cell : cells) {
    out += ' ';
    for (const char c : cell) {
      if (c == '|') out += '\\';
      out += c;
    }
    out += " |";
  }
  return out + "\n";
}

std::string table_markdown(const ReportTable& t) {
  std::string out = "## " + t.title + "\n\n";
  if (!t.rows.empty()) {
    out += cells_markdown(t.head) + "|";
    for (size_t i = 0; i < t.head.size(); ++i) out += i == 0 ? "---|" : "---:|";
    out += "\n";
    for (const ReportTable::Row& row : t.rows) out += cells_markdown(row.cells);
    out += "\n";
  }
  return out + (t.note.empty() ? "" : t.note + "\n\n");
}

// ---- charts
// ----------------------------------------------------------------------------------------------------------

// What a chart's axis shows.
struct Axis {
  std::string label;
  Metric metric;
  double factor = 1;
  double better = 1;  ///< -1 where less is better
};

const Axis kReward{"reward", &EvalPoint::reward},
    kKept{"diversity kept, %", &EvalPoint::diversity_kept, 100},
    kJudge{"judge accuracy, %", &EvalPoint::judge, 100}, kFd{"FD to base", &EvalPoint::fd, 1, -1},
    kKid{"KID to base", &EvalPoint::kid, 1, -1},
    kSaturated{"saturated pixels, %", &EvalPoint::saturated, 100, -1},
    kUpdate{"update", &EvalPoint::update},
    kSeconds{"seconds of training", &EvalPoint::train_seconds};

// Over seeds at each update: x's mean, y's mean with its error, and x's error where `both` asks for
// it.
std::vector<Point> mean_curve(const std::vector<const RunResult*>& runs, const Axis& x,
                              const Axis& y, bool both) {
  std::map<double, std::pair<std::vector<double>, std::vector<double>>> by_update;
  for (const RunResult* run : runs) {
    for (const EvalPoint& e : run->evals) {
      by_update[e.update].first.push_back(x.factor * e.*x.metric);
      by_update[e.update].second.push_back(y.factor * e.*y.metric);
    }
  }
  std::vector<Point> out;
  for (const auto& [update, values] : by_update) {
    const Spread sx = spread(values.first), sy = spread(values.second);
    out.push_back({sx.mean, sy.mean, std::isfinite(sy.se) ? sy.se : 0, "",
                   both && std::isfinite(sx.se) ? sx.se : 0});
  }
  return out;
}

// A level of the base model's own evaluation, such as fd_floor, across a chart.
void add_floor(Chart& chart, const ComparisonView& view, const char* key) {
  const double level = number(view.first()->evals.front().metrics, std::string("/") + key);
  Series floor{"floor: base against base", {}, /*dashed=*/true, static_cast<int>(kColours) - 1};
  for (const Series& s : chart.series) {
    for (const Point& p : s.points) floor.points.push_back({p.x, level});
  }
  std::sort(floor.points.begin(), floor.points.end(),
            [](const Point& a, const Point& b) { return a.x < b.x; });
  chart.series.push_back(floor);
}

Chart mean_chart(const ComparisonView& view, const std::string& title, const Axis& x, const Axis& y,
                 bool both = false) {
  Chart chart{title, x.label, y.label, {}};
  chart.legend = false;
  for (size_t arm = 0; arm < view.runs.size(); ++arm) {
    Series s{view.name(arm), mean_curve(view.runs[arm], x, y, both)};
    s.colour = static_cast<int>(arm);
    chart.series.push_back(s);
  }
  return chart;
}

// The corner line of a front: along x at the better y of two neighbours, then to the next point.
Series front_line(const std::string& name, int colour, const std::vector<Point2>& points,
                  const Axis& x, const Axis& y) {
  Series s{name + ", front", {}, /*dashed=*/false, colour, /*line=*/true, /*dots=*/false};
  std::vector<Point2> better;
  for (const Point2& p : points) better.push_back({x.better * p[0], y.better * p[1]});
  for (const Point2& p : pareto_front(better)) {
    if (!s.points.empty()) s.points.push_back({s.points.back().x, y.better * p[1]});
    s.points.push_back({x.better * p[0], y.better * p[1]});
  }
  return s;
}

Chart front_chart(const ComparisonView& view, const std::string& title, const Axis& x,
                  const Axis& y) {
  Chart chart{title, x.label, y.label, {}};
  chart.legend = false;
  for (size_t arm = 0; arm < view.runs.size(); ++arm) {
    const int colour = static_cast<int>(arm);
    std::vector<Point2> points;
    for (const RunResult* run : view.runs[arm]) {
      Series s{run->plan.label, {}, /*dashed=*/false, colour, /*line=*/false, /*dots=*/true,
               /*faint=*/true};
      for (const EvalPoint& e : run->evals) {
        points.push_back({x.factor * e.*x.metric, y.factor * e.*y.metric});
        s.points.push_back({points.back()[0], points.back()[1]});
      }
      chart.series.push_back(s);
    }
    chart.series.push_back(front_line(view.name(arm), colour, points, x, y));
  }
  return chart;
}

std::string legend_html(const ComparisonView& view) {
  std::string out = "<div class='legend'>";
  for (size_t arm = 0; arm < view.runs.size(); ++arm)
    out += "<span>" + swatch(static_cast<int>(arm)) + escape_html(view.name(arm)) + "</span>";
  return out + "</div>";
}

std::string front_charts(const ComparisonView& view) {
  return "<h2>Reward against what it costs</h2>" + legend_html(view) + "<div class='charts'>" +
         chart_svg(front_chart(view, "Reward against diversity", kKept, kReward)) +
         chart_svg(front_chart(view, "Reward against Fréchet distance", kFd, kReward)) +
         chart_svg(front_chart(view, "Reward against the judge", kJudge, kReward)) +
         chart_svg(mean_chart(view, "Mean trajectory: reward, diversity", kKept, kReward,
                              /*both=*/true)) +
         chart_svg(mean_chart(view, "Mean trajectory: reward, Fréchet distance", kFd, kReward,
                              /*both=*/true)) +
         chart_svg(
             mean_chart(view, "Mean trajectory: reward, judge", kJudge, kReward, /*both=*/true)) +
         "</div><p class='note'>Above: every evaluation of every seed, and each arm's Pareto "
         "front. Below: means over seeds from evaluation to evaluation, with "
         "one standard error either way. Up is more reward; right is better, except for the "
         "Fréchet distance, where left is.</p>";
}

std::string curves(const ComparisonView& view, const std::string& title, const Axis& x) {
  Chart fd = mean_chart(view, "Fréchet distance", x, kFd), kid = mean_chart(view, "KID", x, kKid);
  add_floor(fd, view, "fd_floor");
  add_floor(kid, view, "kid_floor");
  return "<h2>" + title + "</h2>" + legend_html(view) + "<div class='charts'>" +
         chart_svg(mean_chart(view, "Reward, " + view.first()->prompt_words, x, kReward)) +
         chart_svg(mean_chart(view, "Diversity kept", x, kKept)) +
         chart_svg(mean_chart(view, "Judge accuracy", x, kJudge)) + chart_svg(fd) + chart_svg(kid) +
         chart_svg(mean_chart(view, "Saturated pixels", x, kSaturated)) +
         "</div><p class='note'>Means over seeds; the band is one standard error over seeds. "
         "Dashed: base against base.</p>";
}

// ---- the page
// --------------------------------------------------------------------------------------------------------

std::string tiles(const ComparisonView& view) {
  std::string out = "<div class='tiles arms'>";
  for (size_t arm = 0; arm < view.runs.size(); ++arm) {
    const auto& runs = view.runs[arm];
    const Spread gain = at_last(runs, &EvalPoint::gain_sd),
                 kept = at_last(runs, &EvalPoint::diversity_kept),
                 change = at_last(runs, &EvalPoint::judge_change);
    const std::string big = std::isfinite(gain.mean) ? fmt::format("{:+.2f} sd", gain.mean) : "–";
    const std::string small =
        runs.empty()
            ? "no finished run"
            : fmt::format(
                  "reward gain; diversity kept {}; judge {} points",
                  shown(100 * kept.mean, 0, " %"),
                  std::isfinite(change.mean) ? fmt::format("{:+.1f}", 100 * change.mean) : "–");
    out += fmt::format("<div class='tile'><span>{}{}</span><b>{}</b><i>{}</i></div>",
                       swatch(static_cast<int>(arm)), escape_html(view.name(arm)), big,
                       escape_html(small));
  }
  return out + "</div>";
}

std::string warnings_html(const ComparisonView& view) {
  const auto warnings = comparison_warnings(view);
  std::string out = "<h2>To know first</h2>";
  if (warnings.empty()) {
    return out +
           "<div class='box ok'>Every run is finished; all arms share base evaluation, reward and "
           "tuning effort; the settings were not chosen on the seeds "
           "that are shown.</div>";
  }
  for (const std::string& w : warnings) out += "<div class='box warn'>" + escape_html(w) + "</div>";
  return out;
}

// The first and the last grid of a run; empty where there is none.
std::pair<fs::path, fs::path> grids_of(const RunResult& run) {
  std::vector<fs::path> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(run.plan.folder / "grids", ignored)) {
    if (entry.path().extension() == ".png" && entry.path().filename().string().starts_with("eval_"))
      found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found.empty() ? std::pair<fs::path, fs::path>{} : std::pair{found.front(), found.back()};
}

std::string grids_html(const ComparisonView& view) {
  std::string base, arms, missing;
  for (size_t arm = 0; arm < view.runs.size(); ++arm) {
    const RunResult* run = view.runs[arm].empty() ? nullptr : view.runs[arm].front();
    const auto [first, last] = run ? grids_of(*run) : std::pair<fs::path, fs::path>{};
    if (last.empty()) {
      missing += fmt::format("<div class='box warn'>Missing: {} has no grids/eval_*.png</div>",
                             escape_html(view.name(arm)));
      continue;
    }
    if (base.empty()) base = figure(first, "Base model");
    const EvalPoint& e = run->evals.back();
    arms +=
        figure(last, fmt::format("{}, seed {}, after {:.0f} updates: reward {}, diversity kept {}",
                                 view.name(arm), run->plan.seed, e.update, shown(e.reward, 3),
                                 shown(100 * e.diversity_kept, 0, " %")));
  }
  return "<h2>Before and after</h2>" + missing + "<div class='charts'>" + base + arms +
         "</div><p class='note'>Same prompts, same noise.</p>";
}

std::string details(const std::string& summary, const std::string& content) {
  return "<details><summary>" + escape_html(summary) + "</summary><div class='box'><pre>" +
         escape_html(without_password(content)) + "</pre></div></details>";
}

std::string how_it_was_run(const ComparisonView& view) {
  std::string commands, settings, environment;
  for (size_t arm = 0; arm < view.data.config.arms.size(); ++arm) {
    for (const ArmSetting& s : view.data.config.arms[arm].settings)
      settings += fmt::format("{}, {}: {}\n", view.name(arm), s.name, fmt::join(s.overrides, " "));
  }
  for (const RunResult& r : view.data.results)
    commands += "vggflow " + shell_words(r.plan.arguments(view.data.config.base)) + "\n";
  if (view.first() && view.first()->summary.contains("environment")) {
    for (const auto& [key, value] : view.first()->summary["environment"].items()) {
      environment +=
          fmt::format("{}: {}\n", key, value.is_string() ? value.get<std::string>() : value.dump());
    }
  }
  const std::string last =
      view.data.config.last.empty()
          ? ""
          : fmt::format("# on the command line: {}\n", fmt::join(view.data.config.last, " "));
  return "<h2>How it was run</h2>" +
         details("the comparison's file", last + view.data.config.text) +
         details("settings by arm", settings) + details("commands of the finished runs", commands) +
         details("environment of the first run", environment);
}

std::string subtitle(const ComparisonView& view) {
  const ComparisonConfig& c = view.data.config;
  std::string out =
      fmt::format("{} arm{}, seed{} {}, from {}", c.arms.size(), c.arms.size() == 1 ? "" : "s",
                  c.seeds.size() == 1 ? "" : "s", fmt::join(c.seeds, ", "), c.base.string());
  if (const RunResult* run = view.first()) {
    out += fmt::format("; reward {}, {:.0f} updates; evaluated on {} {} with {} images each",
                       text(run->summary, "reward", "unknown"), run->evals.back().update,
                       shown(run->prompts, 0), run->prompt_words, shown(run->images_per_prompt, 0));
  }
  return out;
}

std::string title_of(const ComparisonConfig& config) {
  return "Comparison: " +
         fs::absolute(config.out / "").lexically_normal().parent_path().filename().string();
}

std::string page(const ComparisonView& view) {
  const std::string title = title_of(view.data.config);
  std::string body =
      "<h1>" + escape_html(title) + "</h1><p class='sub'>" + escape_html(subtitle(view)) + "</p>";
  if (view.all.empty()) {
    body += "<p>No run is finished: there are no numbers yet.</p>" + warnings_html(view);
  } else {
    body += tiles(view) + warnings_html(view) + "<h2>Results</h2>" +
            table_html(last_update_table(view));
    if (const ReportTable panel = panel_table(view); !panel.rows.empty()) body += table_html(panel);
    body += "<h2>At equal reward</h2>";
    for (const ReportTable& t : equal_reward_tables(view)) body += table_html(t);
    body += front_charts(view) + table_html(hypervolume_table(view)) +
            curves(view, "Over updates", kUpdate) + curves(view, "Over time", kSeconds) +
            "<h2>What it took</h2>" + table_html(cost_table(view)) +
            table_html(tuning_table(view)) + grids_html(view);
  }
  return html_page(title, body + how_it_was_run(view));
}

std::string markdown(const ComparisonView& view) {
  std::string out = "# " + title_of(view.data.config) + "\n\n" + subtitle(view) + "\n\n";
  for (const std::string& w : comparison_warnings(view)) out += "- " + w + "\n";
  if (view.all.empty()) return out + "\nNo run is finished: there are no numbers yet.\n";
  out += "\n" + table_markdown(last_update_table(view));
  if (const ReportTable panel = panel_table(view); !panel.rows.empty())
    out += table_markdown(panel);
  for (const ReportTable& t : equal_reward_tables(view)) out += table_markdown(t);
  return out + table_markdown(hypervolume_table(view)) + table_markdown(cost_table(view)) +
         table_markdown(tuning_table(view));
}

// ---- CSV
// -------------------------------------------------------------------------------------------------------------

using Numbers = std::vector<std::pair<std::string, double>>;

// The numbers of nested objects by dotted name.
void flatten(const Json& object, const std::string& prefix, Numbers& out) {
  for (const auto& [key, value] : object.items()) {
    if (value.is_object()) flatten(value, prefix + key + ".", out);
    if (value.is_number()) out.emplace_back(prefix + key, value.get<double>());
  }
}

std::string quoted(const std::string& cell) {
  if (cell.find_first_of(",\"\n") == std::string::npos) return cell;
  std::string out = "\"";
  for (const char c : cell) out += c == '"' ? "\"\"" : std::string(1, c);
  return out + "\"";
}

std::string csv_number(double value) {
  return std::isfinite(value) ? fmt::format("{}", value) : "";
}

}  // namespace

std::string results_csv(const ComparisonData& data) {
  std::vector<std::string> names;
  for (const RunResult& run : data.results) {
    for (const EvalPoint& e : run.evals) {
      Numbers numbers;
      flatten(e.metrics, "", numbers);
      for (const auto& [name, value] : numbers) {
        if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
      }
    }
  }
  std::string out =
      "arm,setting,seed,in_tables,update,train_seconds,wall_seconds,rss_gib,peak_gib,reward_gain_"
      "sd,diversity_kept";
  for (const std::string& name : names) out += fmt::format(",{}", quoted(name));
  out += "\n";
  for (const RunResult& run : data.results) {
    const ComparisonArm& arm = data.config.arms[run.plan.arm];
    const auto& seeds = data.config.seeds;
    const bool shown_in_tables =
        data.selections[run.plan.arm].chosen == run.plan.setting &&
        std::find(seeds.begin(), seeds.end(), run.plan.seed) != seeds.end();
    for (const EvalPoint& e : run.evals) {
      Numbers numbers;
      flatten(e.metrics, "", numbers);
      const std::map<std::string, double> by_name(numbers.begin(), numbers.end());
      std::vector<std::string> cells{quoted(arm.name), quoted(arm.settings[run.plan.setting].name),
                                     fmt::to_string(run.plan.seed), shown_in_tables ? "1" : "0"};
      for (const double v : {e.update, e.train_seconds, e.wall_seconds, e.rss_gib,
                             run.cost.peak_gib, e.gain_sd, e.diversity_kept})
        cells.push_back(csv_number(v));
      for (const std::string& name : names)
        cells.push_back(by_name.count(name) ? csv_number(by_name.at(name)) : "");
      out += fmt::format("{}\n", fmt::join(cells, ","));
    }
  }
  return out;
}

void write_comparison_report(const ComparisonData& data) {
  make_writable_folder(data.config.out);
  const ComparisonView view(data);
  write_text(data.config.out / "results.csv", results_csv(data));
  write_text(data.config.out / "results.md", markdown(view));
  write_text(data.config.out / "report.html", page(view));
}

}  // namespace vggflow
