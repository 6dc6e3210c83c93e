#pragma once
// Run folders made by hand for the tests of comparisons: two updates between evaluations, numbers
// that a test can know.

#include <fmt/format.h>

#include <filesystem>
#include <vector>

#include "vggflow/experiments/comparison_config.h"
#include "vggflow/io/files.h"
#include "vggflow/io/image.h"
#include "vggflow/io/jsonl.h"

namespace vggflow::testing {

/// One evaluation; the base's reward is 10 with 2 sd within a prompt, its diversity 0.4.
struct FakeEval {
  int64_t update;
  double reward, diversity, judge = 0.9, fd = 3;
};

inline Json fake_metrics(const FakeEval& e) {
  return {{"reward", {{"mean", e.reward}, {"se", 0.2}}},
          {"reward_sd_within_prompt", 2.0},
          {"judge_change", {{"mean", e.judge - 0.9}, {"se", 0.015}}},
          {"judge_accuracy", {{"mean", e.judge}, {"se", 0.02}}},
          {"diversity", {{"mean", e.diversity}, {"se", 0.01}}},
          {"fd", e.fd},
          {"fd_floor", 3.0},
          {"kid", 0.04},
          {"kid_se", 0.01},
          {"kid_floor", -0.01},
          {"saturated", 0.25}};
}

/// An update takes 2 s (1.5 + 0.5) and an evaluation 3 s.
inline Json fake_update(int64_t update) {
  return {{"kind", "update"},
          {"update", update},
          {"seconds", {{"rollout", 1.5}, {"policy", 0.5}}},
          {"images_per_second", 8.0},
          {"rss_gib", 1 + 0.1 * static_cast<double>(update)}};
}

inline Json fake_eval(const FakeEval& e) {
  return {{"kind", "eval"},          {"update", e.update},
          {"prompts", 20},           {"prompt_kind", "held-out"},
          {"images_per_prompt", 16}, {"metrics", fake_metrics(e)},
          {"seconds", 3.0}};
}

inline void write_fake_summary(const std::filesystem::path& folder, int64_t seed) {
  const Json summary{{"method", "vgg-flow"},
                     {"reward", "colorfulness"},
                     {"seed", seed},
                     {"peak_gib", 1.5},
                     {"passes", {{"rollout", 320}, {"reward", 16}}},
                     {"cost_formula", "B (K + 1)"},
                     {"environment", {{"processor", "a CPU"}}}};
  write_text(folder / "summary.json", summary.dump());
}

/// A finished run with a grid for each evaluation.
inline void write_fake_run(const PlannedRun& run, const std::vector<FakeEval>& evals) {
  make_writable_folder(run.folder / "grids");
  write_text(run.folder / "config.yaml", "");
  JsonLines lines(run.folder / "metrics.jsonl");
  int64_t update = 0;
  for (const FakeEval& e : evals) {
    while (update < e.update) lines.write(fake_update(++update));
    lines.write(fake_eval(e));
    write_png(run.folder / "grids" / fmt::format("eval_{:06}.png", e.update),
              {2, 2, std::vector<uint8_t>(12, static_cast<uint8_t>(7 * e.update + run.arm))});
  }
  write_fake_summary(run.folder, run.seed);
}

}  // namespace vggflow::testing
