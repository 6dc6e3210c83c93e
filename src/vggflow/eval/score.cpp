#include "vggflow/eval/score.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <memory>
#include <numeric>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/core/json.h"
#include "vggflow/core/log.h"
#include "vggflow/core/progress.h"
#include "vggflow/core/result.h"
#include "vggflow/device/device.h"
#include "vggflow/eval/run.h"
#include "vggflow/io/files.h"
#include "vggflow/metrics/metrics.h"
#include "vggflow/report/page.h"
#include "vggflow/report/plot.h"
#include "vggflow/report/thumbnail.h"

namespace vggflow {
namespace {

double at_place(const Tensor& rows, size_t row, int64_t place) {
  return rows[static_cast<int64_t>(row)][place].item<double>();
}

std::vector<int64_t> best_first(const Tensor& scores) {
  const Tensor x = scores.to(at::kDouble).contiguous();
  const double* v = x.const_data_ptr<double>();
  std::vector<int64_t> order(static_cast<size_t>(x.numel()));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [v](int64_t a, int64_t b) {
    return std::isnan(v[b]) ? !std::isnan(v[a]) : v[a] > v[b];
  });
  return order;
}

// Finite scores of one reward.
std::vector<double> finite(const Tensor& row) {
  const Tensor x = row.to(at::kDouble).masked_select(row.isfinite()).contiguous();
  return {x.const_data_ptr<double>(), x.const_data_ptr<double>() + x.numel()};
}

std::string summary_table(const ScoredImages& scored) {
  std::string rows;
  for (size_t r = 0; r < scored.rewards.size(); ++r) {
    const Tensor row = scored.scores[static_cast<int64_t>(r)];
    const std::vector<double> values = finite(row);
    const std::string name = escape_html(scored.rewards[r]);
    if (values.empty()) {
      rows += fmt::format("<tr><td>{}</td><td>0</td><td>–</td><td>–</td><td>–</td><td>–</td></tr>",
                          name);
      continue;
    }
    const auto [low, high] = std::minmax_element(values.begin(), values.end());
    const Estimate mean = estimate(values);
    rows += fmt::format(
        "<tr><td>{}</td><td>{}</td><td>{:.4g}{}</td><td>{}</td><td>{:.4g}</td><td>{:.4g}</td></tr>",
        name, values.size(), mean.mean, mean.se ? fmt::format(" ± {:.2g}", *mean.se) : "",
        mean.se ? fmt::format("{:.3g}", *mean.se * std::sqrt(static_cast<double>(values.size())))
                : "–",
        *low, *high);
  }
  return "<div class='box scroll'><table><tr><th>reward</th><th>scored</th><th>mean ± se over "
         "images</th><th>sd</th><th>lowest</th><th>highest</th></tr>" +
         rows + "</table></div>";
}

std::string card(const ImageSet& set, const ScoredImages& scored, size_t rank) {
  const int64_t place = scored.order[rank];
  const auto i = static_cast<size_t>(place);
  std::string values;
  for (size_t r = 0; r < scored.rewards.size(); ++r) {
    const std::string value = shown(at_place(scored.scores, r, place), 3);
    values += r == 0 ? "<b>" + value + "</b>"
                     : fmt::format("<div>{} {}</div>", escape_html(scored.rewards[r]), value);
  }
  return fmt::format(
      "<figure class='card'>{}<figcaption><span class='rank'>{}</span>{}<div "
      "class='prompt'>{}</div></figcaption></figure>",
      thumbnail(set.pixels(place), 192, set.labels[i]), rank + 1, values,
      set.prompts[i].empty() ? "<i>no prompt</i>" : escape_html(set.prompts[i]));
}

constexpr const char* kStyle =
    "<style>.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:12px}"
    ".card{padding:8px;overflow:hidden}.card img{width:100%;aspect-ratio:1;"
    "object-fit:contain}.card "
    "b{font-size:17px;color:var(--fg)}.rank{float:right}.prompt{color:var(--fg);line-height:1.35;"
    "max-height:5.4em;overflow:hidden;"
    "overflow-wrap:anywhere}</style>";

// A sum may name a reward twice: "colorfulness", "colorfulness (2)".
std::vector<std::string> unique_names(std::vector<std::string> names) {
  std::map<std::string, int> seen;
  for (std::string& name : names) {
    if (const int count = ++seen[name]; count > 1) name += fmt::format(" ({})", count);
  }
  return names;
}

}  // namespace

ScoredImages score_images(const ImageSet& set, const std::vector<std::string>& expressions,
                          const RewardResources& resources, int64_t batch, const Group& group) {
  at::NoGradGuard no_grad;
  VGGFLOW_CHECK(!expressions.empty(), "[score] expected at least one reward; known are {}",
                fmt::join(reward_names(), ", "));
  VGGFLOW_CHECK(set.size() > 0, "[score] {} holds no image", set.name);
  ScoredImages out;
  std::vector<std::unique_ptr<Reward>> rewards;
  for (const std::string& expression : expressions) {
    rewards.push_back(make_reward(expression, resources));
    out.rewards.push_back(expression);
    out.part_names.push_back(rewards.back()->weights().size() > 1
                                 ? unique_names(rewards_in(expression))
                                 : std::vector<std::string>{});
  }
  std::vector<std::vector<Tensor>> parts(rewards.size());  // (B, P) a batch
  Progress progress("score", set.size());
  const auto score_batch = [&](int64_t first, const Tensor& images) {
    const std::vector<std::string> prompts(set.prompts.begin() + first,
                                           set.prompts.begin() + first + images.size(0));
    for (size_t r = 0; r < rewards.size(); ++r)
      parts[r].push_back(
          rewards[r]->parts(images.to(current_device()), prompts).to(at::kCPU, at::kDouble).t());
    progress.advance(first + images.size(0));
  };
  const std::vector<int64_t> lengths = for_batches(set, batch, score_batch, group);
  std::vector<Tensor> totals;
  for (size_t r = 0; r < rewards.size(); ++r) {
    out.parts.push_back(gather_dealt(group, parts[r], lengths).t().contiguous());
    totals.push_back(at::tensor(rewards[r]->weights(), at::kDouble)
                         .unsqueeze(0)
                         .matmul(out.parts.back())
                         .squeeze(0));
  }
  out.scores = at::stack(totals);
  out.order = best_first(out.scores[0]);
  return out;
}

std::vector<Json> score_lines(const ImageSet& set, const ScoredImages& scored) {
  std::vector<Json> lines;
  for (size_t rank = 0; rank < scored.order.size(); ++rank) {
    const int64_t place = scored.order[rank];
    Json scores = Json::object(), parts = Json::object();
    for (size_t r = 0; r < scored.rewards.size(); ++r) {
      scores[scored.rewards[r]] = at_place(scored.scores, r, place);
      for (size_t p = 0; p < scored.part_names[r].size(); ++p)
        parts[scored.rewards[r]][scored.part_names[r][p]] = at_place(scored.parts[r], p, place);
    }
    Json line{{"rank", rank + 1},
              {"image", set.labels[static_cast<size_t>(place)]},
              {"prompt", set.prompts[static_cast<size_t>(place)]},
              {"scores", scores}};
    if (!parts.empty()) line["parts"] = parts;
    lines.push_back(std::move(line));
  }
  return lines;
}

std::string score_sheet(const ImageSet& set, const ScoredImages& scored, int64_t most_thumbnails) {
  const auto total = scored.order.size();
  const auto shown_count = std::min(total, static_cast<size_t>(most_thumbnails));
  const size_t best = (shown_count + 1) / 2;
  std::string body = kStyle + fmt::format("<h1>{} images by {}</h1><p class='sub'>{}</p>", total,
                                          escape_html(scored.rewards[0]), escape_html(set.name));
  if (set.left_out > 0)
    body += fmt::format(
        "<div class='box warn'>Left out for want of a prompt, beside images with one: {}.</div>",
        set.left_out);
  if (!set.unread.empty())
    body += "<div class='box warn'>Not scored: " + escape_html(unread_note(set.unread)) + ".</div>";
  if (set.without_prompt() > 0)
    body += fmt::format(
        "<div class='box warn'>Scored with the empty prompt: {} images that have none.</div>",
        set.without_prompt());
  body += summary_table(scored);
  const auto cards = [&](size_t from, size_t to) {
    std::string out = "<div class='cards'>";
    for (size_t rank = from; rank < to; ++rank) out += card(set, scored, rank);
    return out + "</div>";
  };
  if (shown_count == total)
    return html_page("scores", body + "<h2>Best first</h2>" + cards(0, total));
  return html_page("scores", body + fmt::format("<h2>The {} best</h2>", best) + cards(0, best) +
                                 fmt::format("<h2>The {} worst</h2>", shown_count - best) +
                                 cards(total - (shown_count - best), total));
}

namespace {

void write_scores(const ScoreOptions& o, const ImageSet& set, const ScoredImages& scored) {
  const std::filesystem::path out = o.out;
  std::string lines;
  for (const Json& line : score_lines(set, scored)) lines += json_text(line) + "\n";
  write_text(out / "scores.jsonl", lines);
  write_text(out / "scores.html", score_sheet(set, scored, o.most_thumbnails));
}

}  // namespace

void run_score(const ScoreOptions& o, const Group& group) {
  set_threads(o.threads);
  const Unprompted unprompted = o.prompt.empty() ? Unprompted::kLeaveOut : Unprompted::kKeep;
  ImageSet set = resized(read_image_set({o.images.begin(), o.images.end()}, unprompted), o.size);
  if (!set.unread.empty()) log_info("warning: {}", unread_note(set.unread));
  if (set.left_out > 0)
    log_info("left out {} images without a prompt beside images with one", set.left_out);
  for (std::string& prompt : set.prompts) {
    if (prompt.empty()) prompt = o.prompt;
  }
  if (set.without_prompt() > 0)
    log_info("{} images have no prompt: they are scored with the empty one (--prompt gives one)",
             set.without_prompt());
  const std::filesystem::path out = o.out;
  agree_on_images(group, set);
  group.lead([&] { make_writable_folder(out); });  // before hours of scoring
  const ScoredImages scored = score_images(set, o.rewards, o.files.resources(), o.batch, group);
  group.lead([&] { write_scores(o, set, scored); });
  for (size_t r = 0; r < scored.rewards.size(); ++r) {
    const std::vector<double> values = finite(scored.scores[static_cast<int64_t>(r)]);
    if (values.empty()) {
      print_result(scored.rewards[r] + ": no image got a score");
    } else {
      const Estimate mean = estimate(values);
      print_result(
          fmt::format("{}: mean {:.4g}{} over {} of {} images", scored.rewards[r], mean.mean,
                      mean.se ? fmt::format(" +- {:.2g} (standard error over images)", *mean.se)
                              : " (no error: one image)",
                      values.size(), set.size()));
    }
  }
  print_result("wrote " + (out / "scores.html").string());
}

}  // namespace vggflow
