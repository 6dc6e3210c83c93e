#include "vggflow/report/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/core/json.h"
#include "vggflow/io/files.h"
#include "vggflow/io/jsonl.h"
#include "vggflow/metrics/metrics.h"
#include "vggflow/metrics/student.h"
#include "vggflow/report/grid_cards.h"
#include "vggflow/report/page.h"
#include "vggflow/report/plot.h"

namespace vggflow {
namespace fs = std::filesystem;
using namespace nlohmann::literals;
namespace {

std::optional<double> number_if(const Json& object, const std::string& path) {
  const double value = number(object, path);
  return std::isfinite(value) ? std::optional(value) : std::nullopt;
}

int64_t update_of(const Json& line) {
  const double update = number(line, "/update");
  return std::isfinite(update) ? std::llround(update) : 0;
}

Estimate estimate_of(const Json& metrics, const std::string& name) {
  return {number(metrics, "/" + name + "/mean"), number_if(metrics, "/" + name + "/se")};
}

// "± 0.12" and what follows, or that there is none: what stands in a tile under its figure.
std::string error_note(const std::optional<double>& se, int digits, const char* after = "",
                       double factor = 1) {
  return se ? "± " + shown(factor * *se, digits, after) : "no error";
}

// What the report is made from.
struct RunData {
  std::vector<Json> updates, evals, warnings;
  Json summary = Json::object();
  std::string config;
  std::vector<std::pair<int64_t, fs::path>> grids;  // by update
  std::vector<std::string> missing;
};

void read_lines(const fs::path& file, RunData& data) {
  for (const Json& line : read_json_lines(file)) {
    const std::string kind = text(line, "kind");
    if (kind == "update") data.updates.push_back(line);
    if (kind == "eval" && line.contains("metrics")) data.evals.push_back(line);
    if (kind == "warning") data.warnings.push_back(line);
  }
  if (data.evals.empty()) data.missing.push_back("evaluations in metrics.jsonl");
  if (data.evals.size() == 1)
    data.missing.push_back("an evaluation after the base model's: there is nothing to compare yet");
  if (data.evals.size() > 1 && !data.updates.empty() &&
      update_of(data.evals.back()) < update_of(data.updates.back())) {
    data.missing.push_back(
        fmt::format("an evaluation after update {}: the last one is of update {}",
                    update_of(data.updates.back()), update_of(data.evals.back())));
  }
}

void read_summary(const fs::path& file, RunData& data) {
  if (!fs::exists(file)) {
    data.missing.push_back("summary.json (the run is not finished)");
    return;
  }
  data.summary = try_parse_json(read_text(file));
  if (data.summary.is_object()) return;
  data.summary = Json::object();
  data.missing.push_back("summary.json (it is damaged)");
}

void find_grids(const fs::path& folder, RunData& data) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().stem().string();
    int64_t update = 0;
    if (entry.path().extension() != ".png" || !name.starts_with("eval_")) continue;
    const auto [end, error] = std::from_chars(name.data() + 5, name.data() + name.size(), update);
    if (error == std::errc() && end == name.data() + name.size())
      data.grids.emplace_back(update, entry.path());
  }
  std::sort(data.grids.begin(), data.grids.end());
  if (data.grids.empty()) data.missing.push_back("grids/eval_*.png");
}

RunData read_run(const fs::path& run) {
  VGGFLOW_CHECK(fs::exists(run / "metrics.jsonl"),
                "[report] {} holds no metrics.jsonl: expected a run folder of vggflow align",
                run.string());
  RunData data;
  read_lines(run / "metrics.jsonl", data);
  read_summary(run / "summary.json", data);
  find_grids(run / "grids", data);
  if (fs::exists(run / "config.yaml")) {
    data.config = read_text(run / "config.yaml");
  } else {
    data.missing.push_back("config.yaml");
  }
  return data;
}

std::string tile(const std::string& name, const std::string& value, const std::string& note) {
  return fmt::format("<div class='tile'><span>{}</span><b>{}</b><i>{}</i></div>", escape_html(name),
                     escape_html(value), escape_html(note));
}

// Means over one prompt have no error.
bool has_errors(const RunData& data) {
  return data.evals.empty() || number(data.evals.back(), "/prompts") != 1;
}

bool compares(const RunData& data) { return data.evals.size() > 1; }

// "before → after", or "before" alone in a run that has no evaluation after the base's.
std::string change(const RunData& data, double before, double after, int digits,
                   const char* unit = "") {
  return compares(data) ? shown(before, digits) + " → " + shown(after, digits, unit)
                        : shown(before, digits, unit);
}

// "65.40 → 81.20, paired by prompt; +1.02 ± 0.17 sd of the base within a prompt". Runs of earlier
// programs have no paired change.
std::string reward_note(const RunData& data, const Estimate& before, const Estimate& after,
                        const Estimate& moved, double sd) {
  if (!compares(data)) return error_note(after.se, 2);
  const std::string levels = change(data, before.mean, after.mean, 2);
  const bool paired = std::isfinite(moved.mean);
  const Estimate gain = paired ? moved : Estimate{after.mean - before.mean, std::nullopt};
  return (paired ? levels + ", paired by prompt" : error_note(after.se, 2)) +
         (sd > 0 ? "; " + shown_change(gain, 2, 1 / sd) + " sd of the base within a prompt" : "");
}

std::string judge_note(const RunData& data, const Estimate& before, const Estimate& now,
                       const Estimate& moved) {
  if (!compares(data) || !std::isfinite(moved.mean))
    return error_note(now.se, 1, " points over prompts", 100);
  return change(data, 100 * before.mean, 100 * now.mean, 1, " %") + ", points, paired by prompt";
}

// What moved, with its paired error, is the figure; where it moved from and to stands below.
std::string headline(const RunData& data, const Estimate& before, const Estimate& after,
                     const Estimate& moved, int digits, const char* unit = "", double factor = 1) {
  return compares(data) && std::isfinite(moved.mean)
             ? shown_change(moved, digits, factor)
             : change(data, factor * before.mean, factor * after.mean, digits, unit);
}

std::string diversity_tile(const Json& base, const Json& now, bool compared) {
  const Estimate d0 = estimate_of(base, "diversity"), d1 = estimate_of(now, "diversity"),
                 moved = estimate_of(now, "diversity_change");
  if (!compared) return tile("Diversity", shown(d1.mean, 3), error_note(d1.se, 3));
  // Runs of earlier programs have the ratio of the means alone.
  const Estimate logs = estimate_of(now, "diversity_log_ratio");
  const double share = std::isfinite(logs.mean) ? std::exp(logs.mean) : d1.mean / d0.mean;
  const std::optional<double> relative = std::isfinite(logs.mean) ? logs.se
                                         : moved.se ? std::optional(*moved.se / d1.mean)
                                                    : std::nullopt;
  const Estimate kept{share, relative ? std::optional(*relative * share) : std::nullopt};
  return tile("Diversity kept", shown(kept, 0, 100) + " %",
              shown(d0.mean, 3) + " → " + shown(d1.mean, 3) +
                  (std::isfinite(logs.mean) ? "; the share is a mean over prompts"
                   : moved.se               ? ", paired by prompt"
                   : d1.se                  ? " ± " + shown(*d1.se, 3)
                                            : "; no error"));
}

std::string tiles(const RunData& data) {
  if (data.evals.empty()) return "";
  const Json &base = data.evals.front()["metrics"], &now = data.evals.back()["metrics"];
  const Estimate r0 = estimate_of(base, "reward"), r1 = estimate_of(now, "reward"),
                 reward = estimate_of(now, "reward_change");
  const Estimate j0 = estimate_of(base, "judge_accuracy"), j1 = estimate_of(now, "judge_accuracy"),
                 judge = estimate_of(now, "judge_change");
  return "<div class='tiles'>" +
         tile("Reward", headline(data, r0, r1, reward, 2),
              reward_note(data, r0, r1, reward, number(base, "/reward_sd_within_prompt"))) +
         (std::isfinite(j1.mean)
              ? tile("Judge accuracy", headline(data, j0, j1, judge, 1, " %", 100),
                     judge_note(data, j0, j1, judge))
              : "") +
         diversity_tile(base, now, compares(data)) +
         tile("Fréchet distance to base", shown(number(now, "/fd"), 2),
              "base against base: " + shown(number(base, "/fd_floor"), 2)) +
         "</div>";
}

std::string after_updates(int64_t updates) { return fmt::format("after {} updates", updates); }

std::string grids(const RunData& data) {
  if (data.grids.empty()) return "";
  std::vector<LabelledGrid> ends{{"base", data.grids.front().second}};
  if (data.grids.size() > 1)
    ends.push_back({after_updates(data.grids.back().first), data.grids.back().second});
  std::string out =
      "<h2>Before and after</h2><p class='sub'>The same prompts and the same noise. A click "
      "enlarges an image, another puts it back.</p>" +
      grid_cards(ends);
  if (data.grids.size() <= 2) return out;
  out += "<details><summary>In between</summary><div class='grid2'>";
  for (size_t i = 1; i + 1 < data.grids.size(); ++i)
    out += figure(data.grids[i].second, after_updates(data.grids[i].first));
  return out + "</div></details>";
}

// A name within a JSON pointer.
std::string pointer_word(const std::string& name) {
  std::string out;
  for (const char c : name) out += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
  return out;
}

std::vector<std::string> panel_names(const RunData& data) {
  std::vector<std::string> names;
  if (data.evals.empty() || !data.evals.front()["metrics"].contains("panel")) return names;
  for (const auto& [name, opinion] : data.evals.front()["metrics"]["panel"].items())
    names.push_back(name);
  return names;
}

// Paired changes from the base, where the run has them; levels else.
bool has_changes(const RunData& data, const std::string& path) {
  return !data.evals.empty() && std::isfinite(number(data.evals.back()["metrics"], path + "/mean"));
}

Series series_at(const RunData& data, const std::string& name, const std::string& value,
                 const std::string& error, double factor = 1) {
  Series s{name, {}};
  for (const Json& e : data.evals) {
    const Json& m = e["metrics"];
    s.points.push_back({number(e, "/update"), factor * number(m, value),
                        factor * number_if(m, error).value_or(0), ""});
  }
  return s;
}

// The curve of what moves against the base: its paired change with that change's error, which is
// much smaller than the error of the mean over prompts that differ.
Chart change_chart(const RunData& data, const std::string& title, const std::string& unit,
                   const std::string& level, const std::string& change, double factor = 1) {
  const bool paired = has_changes(data, change);
  const std::string& at = paired ? change : level;
  return {title,
          "update",
          paired ? "paired change of " + unit : unit,
          {series_at(data, unit, at + "/mean", at + "/se", factor)}};
}

Series update_series(const RunData& data, const std::string& name, const std::string& path) {
  Series s{name, {}};
  for (const Json& u : data.updates) {
    if (u.contains(Json::json_pointer(path)))  // not every update has every loss
      s.points.push_back({number(u, "/update"), number(u, path), 0, ""});
  }
  return s;
}

std::set<std::string> loss_names(const RunData& data) {
  std::set<std::string> names;
  for (const Json& u : data.updates) {
    const Json losses = u.value("loss", Json::object());
    if (!losses.is_object()) continue;
    for (const auto& [name, value] : losses.items()) names.insert(name);
  }
  return names;
}

Series dashed(Series s) {
  s.dashed = true;
  return s;
}

Chart tradeoff(const RunData& data) {
  const bool paired = has_changes(data, "/reward_change") && has_changes(data, "/diversity_change");
  Chart chart{"Reward against diversity",
              "diversity",
              paired ? "paired change of reward" : "reward",
              {{"run", {}}}};
  for (const Json& e : data.evals) {
    const Json& m = e["metrics"];
    const Estimate reward = estimate_of(m, paired ? "reward_change" : "reward"),
                   diversity = estimate_of(m, "diversity");
    const auto spread = paired ? number_if(m, "/diversity_change/se") : diversity.se;
    chart.series[0].points.push_back({diversity.mean, reward.mean, reward.se.value_or(0),
                                      fmt::to_string(update_of(e)), spread.value_or(0)});
  }
  return chart;
}

std::string charts(const RunData& data) {
  const char* x = "update";
  std::string out = "<h2>Curves</h2><div class='charts'>";
  out += chart_svg(change_chart(
      data, "Reward, " + (data.evals.empty() ? "prompts" : prompt_words(data.evals.front())),
      "reward", "/reward", "/reward_change"));
  const bool judged =
      !data.evals.empty() && data.evals.front()["metrics"].contains("judge_accuracy");
  if (judged)
    out += chart_svg(change_chart(data, "Judge accuracy", "accuracy, %", "/judge_accuracy",
                                  "/judge_change", 100));
  out += chart_svg(
      change_chart(data, "Diversity", "feature variance", "/diversity", "/diversity_change"));
  out += chart_svg({"Fréchet distance",
                    x,
                    "FD to base",
                    {series_at(data, "FD", "/fd", "/fd_se"),
                     dashed(series_at(data, "floor", "/fd_floor", "/fd_floor_se"))}});
  out += chart_svg({"KID",
                    x,
                    "KID to base",
                    {series_at(data, "KID", "/kid", "/kid_se"),
                     dashed(series_at(data, "floor", "/kid_floor", "/kid_floor_se"))}});
  for (const std::string& name : panel_names(data)) {
    const std::string path = "/panel/" + pointer_word(name);
    out += chart_svg(
        change_chart(data, "Panel: " + name + ", not trained on", "score", path, path + "/change"));
  }
  out += chart_svg(tradeoff(data));
  if (!data.updates.empty()) {
    Chart reward{
        "Reward of the rollouts", x, "reward", {update_series(data, "mean", "/reward/mean")}};
    Chart loss{"Losses", x, "loss", {}};
    for (const std::string& name : loss_names(data))
      loss.series.push_back(update_series(data, name, "/loss/" + pointer_word(name)));
    Chart norm{"Gradient norms",
               x,
               "norm",
               {update_series(data, "policy", "/grad_norm/policy"),
                update_series(data, "value", "/grad_norm/value")}};
    loss.log_y = !data.updates.front().contains(
        "/loss/reward"_json_pointer);  // ReFL's and DRaFT's loss is a negative reward
    norm.log_y = true;
    for (Chart* c : {&reward, &loss, &norm}) {
      c->mark = false;
      out += chart_svg(*c);
    }
  }
  if (data.summary.contains("seconds")) {
    std::vector<Bar> bars;
    for (const auto& [name, seconds] : data.summary["seconds"].items()) {
      if (seconds.is_number()) bars.push_back({name, seconds.get<double>()});
    }
    out += bars_svg("Time by phase", bars, "s");
  }
  return out + "</div>";
}

std::string evaluation_row(const Json& line) {
  const Json& m = line["metrics"];
  const Estimate judge = estimate_of(m, "judge_accuracy"),
                 judge_change = estimate_of(m, "judge_change");
  const std::vector<std::string> cells{
      fmt::to_string(update_of(line)),
      shown(estimate_of(m, "reward"), 3),
      shown_change(estimate_of(m, "reward_change"), 3),
      shown(judge, 1, 100),
      shown_change(judge_change, 1, 100),
      shown(estimate_of(m, "judge_score"), 3),
      shown(estimate_of(m, "diversity"), 4),
      fmt::format("{} ({})", shown(number(m, "/fd"), 2), shown(number(m, "/fd_floor"), 2)),
      fmt::format("{} ({})", shown(Estimate{number(m, "/kid"), number_if(m, "/kid_se")}, 4),
                  shown(number(m, "/kid_floor"), 4)),
      shown(100 * number(m, "/saturated"), 1, " %")};
  return fmt::format("<tr><td>{}</td></tr>", fmt::join(cells, "</td><td>"));
}

std::string evaluation_table(const RunData& data) {
  if (data.evals.empty()) return "";
  std::string rows;
  for (const Json& e : data.evals) rows += evaluation_row(e);
  return fmt::format(
      "<h2>Evaluations</h2><p class='sub'>{} {}, {} images each; {}. FD and KID are taken on the "
      "features of {} against a second set of base images; the floor in brackets is base "
      "against base. The floor of KID lies below zero because the two sets share their "
      "prompts.</p><div class='box scroll'><table><tr>"
      "<th>update</th><th>reward</th><th>its change, paired</th><th>judge %</th><th>its change, "
      "paired</th><th>judge "
      "score</th><th>diversity</th><th>FD (floor)</th><th>KID (floor)</th><th>saturated</th></tr>{}"
      "</table></div>",
      shown(number(data.evals.front(), "/prompts"), 0),
      escape_html(prompt_words(data.evals.front())),
      shown(number(data.evals.front(), "/images_per_prompt"), 0),
      has_errors(data) ? "± is the standard error over prompts, of KID over random subsets"
                       : "means over one prompt have no error; that of KID is over random subsets",
      escape_html(text(data.evals.front()["metrics"], "features", "the judge")), rows);
}

std::string warnings(const RunData& data) {
  std::vector<std::string> all;
  for (const Json& w : data.warnings)
    all.push_back(fmt::format("Update {}: {}", update_of(w), text(w, "text", text(w, "name"))));
  for (const std::string& m : data.missing) all.push_back("Missing: " + m);
  double dropped = 0;
  for (const Json& u : data.updates) dropped += std::max(0.0, number(u, "/dropped"));
  if (dropped > 0)
    all.push_back(fmt::format(
        "{:.0f} transitions were left out because their reward or its gradient was not finite",
        dropped));
  std::string out = "<h2>Warnings</h2>";
  if (all.empty()) {
    const bool judged =
        !data.evals.empty() && data.evals.front()["metrics"].contains("judge_accuracy");
    const double prompts =
        data.evals.empty() ? std::nan("") : number(data.evals.back(), "/prompts");
    const std::string fell =
        prompts < kLeastValues
            ? fmt::format(
                  "with fewer than {} prompts no fall of the judge or the panel is told "
                  "from chance, ",
                  kLeastValues)
        : judged ? "the judge did not fall beyond chance (t test at 5 %), "
                 : "";
    return out + fmt::format(
                     "<div class='box ok'>None: {}diversity stayed above the floor of the run, "
                     "nothing was dropped.</div>",
                     fell);
  }
  for (const std::string& warning : all)
    out += "<div class='box warn'>" + escape_html(warning) + "</div>";
  return out;
}

// Counted network passes of an update beside the method's formula, and the evaluation that was
// kept.
std::string cost(const RunData& data) {
  std::string out;
  if (data.summary.contains("cost_formula")) {
    const auto passes = [&](const char* key) {
      return shown(number(data.summary, std::string("/passes/") + key), 0);
    };
    out += fmt::format(
        "<h2>Cost of an update</h2><div class='box'>{} = {} forward, {} tangent, {} backward "
        "passes of the flow model and {}, {}, {} of the value "
        "network, counted. B trajectories of N steps; F, J, B: one sample and guidance branch "
        "forward, its tangent, backward.</div>",
        escape_html(text(data.summary, "cost_formula")), passes("forward"), passes("tangent"),
        passes("backward"), passes("value_forward"), passes("value_tangent"),
        passes("value_backward"));
  }
  const double best = number(data.summary, "/best/update");
  if (std::isfinite(best)) {
    out += fmt::format(
        "<h2>Best before collapse</h2><div class='box'>Update {:.0f}, reward {}: the highest of "
        "the evaluations that nothing speaks against. Kept as "
        "lora_best.safetensors, its whole state as checkpoints/best.</div>",
        best, shown(number(data.summary, "/best/metrics/reward/mean"), 3));
  } else if (compares(data)) {
    out +=
        "<h2>Best before collapse</h2><div class='box warn'>None: the judge, the panel or the "
        "diversity floor spoke against every evaluation.</div>";
  }
  return out;
}

// The commands that come next, as the run wrote them down.
std::string use_it(const RunData& data) {
  std::string out;
  for (const Json& next : data.summary.value("next", Json::array())) {
    out += fmt::format("<div>{}</div><pre class='command'>{}</pre>",
                       escape_html(text(next, "what")), escape_html(text(next, "command")));
  }
  return out.empty() ? "" : "<h2>Use it</h2><div class='box'>" + out + "</div>";
}

std::string settings(const RunData& data) {
  std::string out =
      "<h2>Settings</h2><details><summary>config.yaml: run it again with vggflow align "
      "--config</summary><div class='box'><pre>" +
      escape_html(data.config) +
      "</pre></div></details><h2>Environment</h2><div class='box'><table>";
  if (data.summary.contains("environment")) {
    for (const auto& [key, value] : data.summary["environment"].items()) {
      out += fmt::format("<tr><td>{}</td><td>{}</td></tr>", escape_html(key),
                         escape_html(value.is_string() ? value.get<std::string>() : value.dump()));
    }
  }
  if (const std::string date = text(data.summary, "date"); !date.empty())
    out += fmt::format("<tr><td>finished</td><td>{}</td></tr>", escape_html(date));
  if (data.summary.contains("peak_gib"))
    out += fmt::format("<tr><td>peak memory</td><td>{:.2f} GiB</td></tr>",
                       number(data.summary, "/peak_gib"));
  return out + "</table></div>";
}

}  // namespace

void write_report(const fs::path& run) {
  const RunData data = read_run(run);
  const std::string title = fmt::format("{} on {}", text(data.summary, "method", "alignment"),
                                        text(data.summary, "reward", "a reward"));
  const fs::path folder = fs::absolute(run / "").lexically_normal().parent_path();
  const std::string sub =
      fmt::format("{} updates, seed {}, {}", data.updates.size(),
                  shown(number(data.summary, "/seed"), 0), folder.filename().string());
  write_text(
      run / "report.html",
      html_page(title, "<h1>" + escape_html(title) + "</h1><p class='sub'>" + escape_html(sub) +
                           "</p>" + tiles(data) + warnings(data) + grids(data) + use_it(data) +
                           charts(data) + evaluation_table(data) + cost(data) + settings(data)));
}

namespace {

Json finished_summary(const fs::path& run) {
  VGGFLOW_CHECK(fs::exists(run / "summary.json"),
                "[report] {} holds no summary.json: the run is not finished", run.string());
  Json summary = try_parse_json(read_text(run / "summary.json"));
  VGGFLOW_CHECK(summary.is_object(), "[report] {} is damaged", (run / "summary.json").string());
  return summary;
}

}  // namespace

std::string comparison_markdown(const std::vector<fs::path>& runs) {
  VGGFLOW_CHECK(!runs.empty(), "[report] expected at least one run to compare, got none");
  struct Row {
    const char *name, *path;
    double factor;
  };
  static const std::vector<Row> rows{
      {"base reward", "/base/reward/mean", 1},
      {"aligned reward", "/final/reward/mean", 1},
      {"reward gain (sd of the base within a prompt)", "/reward_gain_sd", 1},
      {"base judge accuracy (%)", "/base/judge_accuracy/mean", 100},
      {"aligned judge accuracy (%)", "/final/judge_accuracy/mean", 100},
      {"change of judge accuracy, paired by prompt (points)", "/final/judge_change/mean", 100},
      {"its standard error over prompts", "/final/judge_change/se", 100},
      {"diversity kept (%)", "/diversity_kept", 100},
      {"FD to base", "/final/fd", 1},
      {"FD floor", "/final/fd_floor", 1},
      {"KID to base", "/final/kid", 1},
      {"KID floor", "/final/kid_floor", 1},
      {"saturated pixels, base (%)", "/base/saturated", 100},
      {"saturated pixels, aligned (%)", "/final/saturated", 100}};
  std::vector<Json> summaries;
  std::string head = "| |", rule = "|---|";
  for (const fs::path& run : runs) {
    summaries.push_back(finished_summary(run));
    VGGFLOW_CHECK(text(summaries.back(), "reward") == text(summaries.front(), "reward"),
                  "[report] expected runs of one reward, got {} in {} and {} in {}",
                  text(summaries.front(), "reward"), runs.front().string(),
                  text(summaries.back(), "reward"), run.string());
    head += fmt::format(" seed {} |", shown(number(summaries.back(), "/seed"), 0));
    rule += "---|";
  }
  std::string out = head + " mean ± s.e. |\n" + rule + "---|\n";
  for (const Row& row : rows) {
    std::vector<double> values;
    out += fmt::format("| {} |", row.name);
    for (const Json& s : summaries) {
      values.push_back(row.factor * number(s, row.path));
      out += fmt::format(" {:.3g} |", values.back());
    }
    const Estimate e = estimate(values);
    out += e.se ? fmt::format(" {:.3g} ± {:.2g} |\n", e.mean, *e.se)
                : fmt::format(" {:.3g} |\n", e.mean);
  }
  return out;
}

}  // namespace vggflow
