#include "vggflow/eval/metrics_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <utility>

#include "vggflow/core/json.h"
#include "vggflow/core/listing.h"
#include "vggflow/core/log.h"
#include "vggflow/core/result.h"
#include "vggflow/data/captions.h"
#include "vggflow/data/prompt_file.h"
#include "vggflow/features/feature_networks.h"
#include "vggflow/io/files.h"
#include "vggflow/report/set_sheet.h"

namespace vggflow {
namespace {

RewardPanel load_rewards(const MetricsConfig& c) {
  RewardPanel panel;
  for (const std::string& name : c.panel)
    panel.emplace_back(name, make_reward(name, c.reward_files.resources()));
  return panel;
}

bool is_drawn(const std::vector<std::string>& sources) {
  return sources.size() == 1 && source_of(sources[0]) != SetSource::kImages;
}

// Images as they lie there, or those of a model, which go to out/`name`.
std::optional<ImageSet> read_set(const std::vector<std::string>& sources, const MetricsConfig& c,
                                 const Group& group, const std::string& name, int64_t skip = 0) {
  if (sources.empty()) return std::nullopt;
  if (!is_drawn(sources)) return read_image_set({sources.begin(), sources.end()});
  const std::filesystem::path folder = std::filesystem::path(c.out) / name;
  draw_set(sources[0], c.models, skip, folder, group);
  ImageSet set = read_image_set({folder});
  set.name = sources[0];
  return set;
}

ImageSet prepared(ImageSet set, const MetricsConfig& c) {
  if (!set.unread.empty()) log_info("warning: {}: {}", set.name, unread_note(set.unread));
  if (set.left_out > 0)
    log_info("{}: left out {} images without a prompt beside images with one", set.name,
             set.left_out);
  if (set.without_prompt() > 0 && !c.panel.empty())
    log_info("{}: {} images have no prompt: rewards are given the empty one", set.name,
             set.without_prompt());
  if (c.metrics.images_per_prompt > 0) set = first_of_each(set, c.metrics.images_per_prompt);
  return resized(std::move(set), c.size);
}

// A preset names networks whose weights lie elsewhere on every machine.
void check_features(const MetricsConfig& c) {
  const auto known = feature_network_names();
  std::vector<std::string> all;
  bool bare = false;
  for (const std::string& name : c.features) {
    const bool lacks_path = std::find(known.begin(), known.end(), name) != known.end();
    all.push_back(lacks_path ? name + "=PATH" : name);
    bare = bare || lacks_path;
  }
  VGGFLOW_CHECK(!bare,
                "[metrics] expected the paths of the feature networks' weights, got features=[{}]: "
                "pass \"features=[{}]\" (which files: docs/metrics.md)",
                fmt::join(c.features, ", "), fmt::join(all, ", "));
  VGGFLOW_CHECK(
      !c.features.empty() || !c.panel.empty(),
      "[metrics] expected features=[...] or panel=[...], got neither: there is nothing to measure");
}

// Whether the set's prompts are names of emoji, and its images small: what the emoji's networks
// were made for.
bool looks_like_emoji(const ImageSet& set, const EmojiOptions& data) {
  constexpr int64_t kLargest = 128;  // of EmojiOptions::size
  if (!std::filesystem::exists(data.list) || set.pixels(0).size(1) > kLargest) return false;
  std::set<std::string> names;
  for (const EmojiItem& item : parse_emoji_test(data.list))
    names.insert({item.name, item.base_name, subgroup_caption(item.subgroup)});
  return 2 * std::count_if(set.prompts.begin(), set.prompts.end(),
                           [&](const std::string& p) { return names.contains(p); }) >
         set.size();
}

// What the emoji's networks say of other images is noise, however exact it looks.
std::vector<std::string> foreign_features(const FeatureNetworks& networks, const ImageSet& set,
                                          const EmojiOptions& data) {
  std::vector<std::string> warnings;
  for (const auto& network : networks) {
    if ((network->name() != "judge" && network->name() != "emoji-clip") ||
        looks_like_emoji(set, data))
      continue;
    warnings.push_back(
        fmt::format("the features of {} are of emoji at 32 x 32 pixels, and the images of {} do "
                    "not look like those: take "
                    "\"features=[dreamsim=DIR, clip=DIR, inception-v3=FILE]\", or pixels-8x8 "
                    "without weights (docs/metrics.md)",
                    network->name(), set.name));
  }
  return warnings;
}

std::string described(const PromptMean& m) {
  const std::string interval =
      m.interval ? fmt::format(" [{:.4g}, {:.4g}]", m.interval->low, m.interval->high) : "";
  return fmt::format("{:.4g}{}{}", m.estimate.mean,
                     m.estimate.se ? fmt::format(" +- {:.2g}", *m.estimate.se) : " (no error)",
                     interval);
}

void log_comparison(const SetComparison& c) {
  for (const std::string& warning : c.warnings) log_info("warning: {}", warning);
  if (c.shared)
    log_info("A and B have {} of {} and {} prompts in common", *c.shared, c.a.grouped.groups.size(),
             c.b->grouped.groups.size());
  for (const PromptMeasure& m : c.by_prompt) {
    std::string line = fmt::format("{:<24} {:<12} {} over {} {}", m.name, m.network, described(m.a),
                                   m.a.n, c.unit(m.a.n));
    if (m.b) line += " | B " + described(*m.b);
    if (m.change) line += " | A - B " + described(*m.change);
    if (const double factor = published_factor(m); factor != 1)
      line += fmt::format(" | as published, {:g} times that: A {:.4g}", factor,
                          factor * m.a.estimate.mean);
    print_result(line);
  }
  for (const SetMeasure& m : c.as_a_whole) {
    std::string line = fmt::format("{:<24} {:<12} {:.5g}", m.name, m.network, m.value);
    if (m.se) line += fmt::format(" +- {:.2g}", *m.se);
    if (m.matched) line += fmt::format(" | half to half {:.5g}", *m.matched);
    if (m.floor) line += fmt::format(" | floor {:.5g}", *m.floor);
    print_result(line);
  }
}

}  // namespace

void compare_and_report(const MetricsConfig& c, ImageSet a, std::optional<ImageSet> b,
                        std::optional<ImageSet> base, const Group& group) {
  check_features(c);
  VGGFLOW_CHECK(b || !base, "[metrics] base=... is a second set of b's model: give b=... too");
  a = prepared(std::move(a), c);
  if (b) b = prepared(*std::move(b), c);
  if (base) base = prepared(*std::move(base), c);
  const std::filesystem::path out = c.out;
  group.lead([&] { make_writable_folder(out); });
  FeatureNetworks networks;
  for (const std::string& name : c.features)
    networks.push_back(open_features(name, {c.judge, c.reward_files.reward_model}));
  const RewardPanel panel = load_rewards(c);
  const auto measure_set = [&](const ImageSet& set) {
    agree_on_images(group, set);
    return measure(set, networks, panel, c.metrics.batch, group);
  };
  const auto measured = [&](const std::optional<ImageSet>& set) {
    return set ? std::optional(measure_set(*set)) : std::nullopt;
  };
  // One after another, in an order that all processes keep.
  MeasuredSet of_a = measure_set(a);
  std::optional<MeasuredSet> of_b = measured(b), of_base = measured(base);
  SetComparison comparison =
      compare_sets(std::move(of_a), std::move(of_b), std::move(of_base), networks, c.metrics);
  VGGFLOW_CHECK(!comparison.by_prompt.empty() || !comparison.as_a_whole.empty(),
                "[metrics] nothing can be told of {} of {}: diversity takes two of a "
                "prompt, a distance two in each set; a reward, panel=[colorfulness], takes one",
                count_of(comparison.a.size(), "image"), comparison.a.name);
  const auto foreign = foreign_features(networks, a, c.models.data);
  comparison.warnings.insert(comparison.warnings.end(), foreign.begin(), foreign.end());
  log_comparison(comparison);
  std::optional<PromptOverlap> overlap;
  Json result = comparison.to_json();
  if (!c.train_prompts.empty()) {
    overlap = prompt_overlap(read_prompts(c.train_prompts), comparison.a.grouped.groups);
    result["train_prompts"] = overlap_json(*overlap);
    print_result(fmt::format("{} of {} prompts are among the {} training prompts, or close to one",
                             overlap->found(), overlap->eval, overlap->train));
  }
  group.lead([&] {
    write_text(out / "metrics.json", json_text(result, 2) + "\n");
    write_text(out / "metrics.html", comparison_sheet(comparison, a, b, overlap));
  });
  print_result("wrote " + (out / "metrics.html").string());
}

void run_metrics(const MetricsConfig& c, const Group& group) {
  set_threads(c.threads);
  VGGFLOW_CHECK(!c.a.empty(), "[metrics] expected a=FOLDER, and b=FOLDER to compare it with");
  check_features(c);  // before hours of drawing
  // Without a second set of the base, a model draws one from other noise.
  const std::vector<std::string> base = c.base.empty() && is_drawn(c.b) ? c.b : c.base;
  for (const auto* sources : {&c.a, &c.b, &base}) {
    if (is_drawn(*sources)) check_set(sources->front(), c.models);
  }
  ImageSet a = *read_set(c.a, c, group, "a");
  std::optional<ImageSet> b = read_set(c.b, c, group, "b"),
                          second = read_set(base, c, group, "base", /*skip=*/c.models.images);
  compare_and_report(c, std::move(a), std::move(b), std::move(second), group);
}

}  // namespace vggflow
