#include "vggflow/eval/metrics_run.h"

#include <ATen/Parallel.h>

#include "vggflow/core/log.h"
#include "vggflow/data/prompt_file.h"
#include "vggflow/eval/set_sheet.h"
#include "vggflow/io/files.h"
#include "vggflow/models/feature_networks.h"

namespace vggflow {
namespace {

RewardPanel load_rewards(const MetricsConfig& c) {
  RewardPanel panel;
  for (const std::string& name : c.panel) panel.emplace_back(name, make_reward(name, c.reward_files.resources()));
  return panel;
}

bool is_drawn(const std::vector<std::string>& sources) { return sources.size() == 1 && source_of(sources[0]) != SetSource::kImages; }

// Images as they lie there, or those of a model, which go to out/`name`.
std::optional<ImageSet> read_set(const std::vector<std::string>& sources, const MetricsConfig& c, const std::string& name, int64_t skip = 0) {
  if (sources.empty()) return std::nullopt;
  if (!is_drawn(sources)) return read_image_set({sources.begin(), sources.end()});
  const std::filesystem::path folder = std::filesystem::path(c.out) / name;
  draw_set(sources[0], c.models, skip, folder);
  ImageSet set = read_image_set({folder});
  set.name = sources[0];
  return set;
}

ImageSet prepared(ImageSet set, const MetricsConfig& c) {
  if (set.left_out > 0) log_info("{}: left out {} images without a prompt beside images with one", set.name, set.left_out);
  if (set.without_prompt() > 0 && !c.panel.empty()) log_info("{}: {} images have no prompt: rewards are given the empty one", set.name, set.without_prompt());
  if (c.metrics.images_per_prompt > 0) set = first_of_each(set, c.metrics.images_per_prompt);
  return resized(std::move(set), c.size);
}

std::string described(const PromptMean& m) { return fmt::format("{:.4g} +- {:.2g} [{:.4g}, {:.4g}]", m.estimate.mean, m.estimate.se, m.interval.low, m.interval.high); }

void log_comparison(const SetComparison& c) {
  for (const PromptMeasure& m : c.by_prompt) {
    std::string line = fmt::format("{:<24} {:<12} {} over {} prompts", m.name, m.network, described(m.a), m.a.n);
    if (m.b) line += " | B " + described(*m.b);
    if (m.change) line += " | A - B " + described(*m.change);
    log_line(line);
  }
  for (const SetMeasure& m : c.as_a_whole) {
    std::string line = fmt::format("{:<24} {:<12} {:.5g}", m.name, m.network, m.value);
    if (m.se) line += fmt::format(" +- {:.2g}", *m.se);
    if (m.matched) line += fmt::format(" | half to half {:.5g}", *m.matched);
    if (m.floor) line += fmt::format(" | floor {:.5g}", *m.floor);
    log_line(line);
  }
}

}  // namespace

void compare_and_report(const MetricsConfig& c, ImageSet a, std::optional<ImageSet> b, std::optional<ImageSet> base) {
  VGGFLOW_CHECK(b || !base, "[metrics] base=... is a second set of b's model: give b=... too");
  a = prepared(std::move(a), c);
  if (b) b = prepared(*std::move(b), c);
  if (base) base = prepared(*std::move(base), c);
  const std::filesystem::path out = c.out;
  make_writable_folder(out);
  FeatureNetworks networks;
  for (const std::string& name : c.features) networks.push_back(open_features(name, {c.judge, c.reward_files.reward_model}));
  const RewardPanel panel = load_rewards(c);
  const auto measured = [&](const std::optional<ImageSet>& set) {
    return set ? std::optional(measure(*set, networks, panel, c.metrics.batch)) : std::nullopt;
  };
  const SetComparison comparison = compare_sets(measure(a, networks, panel, c.metrics.batch), measured(b), measured(base), networks, c.metrics);
  log_comparison(comparison);
  std::optional<PromptOverlap> overlap;
  Json result = comparison.to_json();
  if (!c.train_prompts.empty()) {
    overlap = prompt_overlap(read_prompts(c.train_prompts), comparison.a.grouped.groups);
    result["train_prompts"] = overlap_json(*overlap);
    log_info("{} of {} prompts are among the {} training prompts, or close to one", overlap->found(), overlap->eval, overlap->train);
  }
  write_text(out / "metrics.json", result.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  write_text(out / "metrics.html", comparison_sheet(comparison, a, b, overlap));
  log_info("wrote {}", (out / "metrics.html").string());
}

void run_metrics(const MetricsConfig& c) {
  if (c.threads > 0) at::set_num_threads(static_cast<int>(c.threads));
  VGGFLOW_CHECK(!c.a.empty(), "[metrics] expected a=FOLDER, and b=FOLDER to compare it with");
  // Without a second set of the base, a model draws one from other noise.
  const std::vector<std::string> base = c.base.empty() && is_drawn(c.b) ? c.b : c.base;
  for (const auto* sources : {&c.a, &c.b, &base}) {
    if (is_drawn(*sources)) check_set(sources->front(), c.models);
  }
  ImageSet a = *read_set(c.a, c, "a");
  std::optional<ImageSet> b = read_set(c.b, c, "b");
  compare_and_report(c, std::move(a), std::move(b), read_set(base, c, "base", /*skip=*/c.models.images));
}

}  // namespace vggflow
