#include "vggflow/eval/sweep.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "vggflow/core/error.h"
#include "vggflow/core/json.h"
#include "vggflow/core/log.h"
#include "vggflow/core/progress.h"
#include "vggflow/core/result.h"
#include "vggflow/io/files.h"
#include "vggflow/io/grid_file.h"
#include "vggflow/report/grid_cards.h"
#include "vggflow/report/page.h"
#include "vggflow/report/plot.h"

namespace vggflow {
namespace {

struct Stop {
  double strength;
  Evaluation evaluation;
  std::filesystem::path grid;
};

Chart against(const std::string& title, const std::string& x_label, const std::vector<Stop>& stops,
              const std::function<Estimate(const Evaluation&)>& x) {
  Chart chart{title, x_label, "paired change of reward", {{"strength", {}}}};
  for (const Stop& s : stops) {
    const Estimate at = x(s.evaluation);
    chart.series[0].points.push_back({at.mean, s.evaluation.reward_change.mean,
                                      s.evaluation.reward_change.se.value_or(0),
                                      fmt::format("{:g}", s.strength), at.se.value_or(0)});
  }
  return chart;
}

std::string table(const std::vector<Stop>& stops) {
  const Evaluation& base = stops.front().evaluation;
  std::string rows;
  for (const Stop& s : stops) {
    const Evaluation& e = s.evaluation;
    const std::string judge = e.judged ? "<td>" + shown(e.judge_accuracy, 1, 100) + "</td>" : "";
    rows += fmt::format(
        "<tr><td>{:g}</td><td>{}</td><td>{}</td><td>{:+.2f}</td>{}<td>{:.0f} "
        "%</td><td>{:.2f}</td><td>{:.4f}</td></tr>",
        s.strength, shown(e.reward, 3), shown_change(e.reward_change, 3),
        e.reward_change.mean / std::max(1e-12, base.reward_sd_within_prompt), judge,
        100 * e.diversity_kept(), e.fd, e.kid.mean);
  }
  return std::string(
             "<div class='box scroll'><table><tr><th>strength</th><th>reward</th><th>its change, "
             "paired</th><th>in sd</th>") +
         (base.judged ? "<th>judge %</th>" : "") +
         "<th>diversity kept</th><th>FD to base</th><th>KID</th></tr>" + rows + "</table></div>";
}

// The same prompts and noise at every strength, side by side.
std::string pictures(const std::vector<Stop>& stops) {
  std::vector<LabelledGrid> grids;
  for (const Stop& s : stops) grids.push_back({fmt::format("{:g}", s.strength), s.grid});
  return "<h2>Images by strength</h2>" + grid_cards(grids);
}

std::string page(const SweepConfig& c, const std::string& reward, const std::vector<Stop>& stops) {
  const auto fixed = [](double v) { return Estimate{v, std::nullopt}; };
  const std::string title = "Strength of " + c.eval.generator.lora;
  const bool judged = stops.front().evaluation.judged;
  return html_page(
      title,
      fmt::format("<h1>{}</h1><p class='sub'>Reward: {}. {} prompts, {} images each; the same "
                  "noise at every strength; {}</p>",
                  escape_html(title), escape_html(reward), c.eval.eval.prompts, c.eval.eval.images,
                  c.eval.eval.prompts > 1 ? "± is the standard error over prompts"
                                          : "one prompt: no errors") +
          table(stops) + "<div class='charts'>" +
          chart_svg(against("Reward against diversity", "diversity", stops,
                            [](const Evaluation& e) { return e.diversity; })) +
          chart_svg(against("Reward against distance", "FD to base", stops,
                            [&](const Evaluation& e) { return fixed(e.fd); })) +
          (judged ? chart_svg(against("Reward against the judge", "judge accuracy", stops,
                                      [](const Evaluation& e) { return e.judge_accuracy; }))
                  : "") +
          "</div>" + pictures(stops));
}

}  // namespace

void run_sweep(const SweepConfig& c, const Group& group) {
  VGGFLOW_CHECK(!c.eval.generator.lora.empty(),
                "[sweep] expected generator.lora, the LoRA whose strength is swept");
  VGGFLOW_CHECK(!c.eval.out.empty(), "[sweep] expected out, a folder");
  set_threads(c.eval.threads);
  require_prompts(c.eval.generator.flow, c.eval.prompts);
  const std::filesystem::path out = c.eval.out;
  group.lead([&] { make_writable_folder(out); });
  Generator generator(c.eval.generator, group);
  const EvalSetup setup(c.eval, generator, group);
  const auto images = [&](bool aligned) {
    return [&generator, aligned](const std::vector<std::string>& captions, const Tensor& noise) {
      return generator.generate(captions, noise, aligned);
    };
  };
  const std::vector<std::string> shown = setup.source->display();
  generator.model().prepare(shown);
  const auto stops_besides = std::count_if(c.strengths.begin(), c.strengths.end(),
                                           [](double strength) { return strength != 0; });
  const int64_t set = setup.evaluator->set_size();
  // The base has two sets of images.
  Progress bar("sweep", set + (stops_besides + 1) * (set + std::ssize(shown)));
  Json lines = Json::array();
  std::vector<Stop> stops;
  const auto add = [&](double strength, const Evaluation& e, bool aligned) {
    stops.push_back({strength, e, {}});
    lines.push_back({{"strength", strength}, {"metrics", e.to_json()}});
    stops.back().grid = out / fmt::format("strength_{:.2f}.png", strength);
    const Tensor grid = drawn_thumbnails(images(aligned), shown, c.eval.eval.batch,
                                         generator.model().state_shape(), group, &bar);
    group.lead([&] { write_grid(stops.back().grid, grid_of(grid), shown); });
    print_result(
        fmt::format("strength {:.2f} | reward {:.3f}{}{} | diversity {:.0f} % | FD {:.2f}",
                    strength, e.reward.mean, error_text(e.reward.se, 3),
                    e.judged ? fmt::format(" | judge {:.1f} %", 100 * e.judge_accuracy.mean) : "",
                    100 * e.diversity_kept(), e.fd));
  };
  add(0, setup.evaluator->evaluate_base(images(false), &bar), false);
  for (const double strength : c.strengths) {
    if (strength == 0) continue;
    generator.set_strength(strength);
    add(strength, setup.evaluator->evaluate(images(true), &bar), true);
  }
  group.lead([&] {
    write_text(out / "sweep.json", json_text(lines, 2) + "\n");
    write_text(out / "sweep.html", page(c, setup.reward_name, stops));
  });
  print_result("report: " + (out / "sweep.html").string());
}

}  // namespace vggflow
