#pragma once
// The job behind `vggflow metrics`: reads sets of images, measures and compares them, writes
// metrics.json and metrics.html.

#include <optional>
#include <string>
#include <vector>

#include "vggflow/device/device.h"
#include "vggflow/dist/group.h"
#include "vggflow/dist/options.h"
#include "vggflow/eval/model_sets.h"
#include "vggflow/metrics/set_metrics.h"

namespace vggflow {

struct MetricsConfig {
  std::vector<std::string> a, b, base;
  std::string out = "metrics";
  std::vector<std::string> features{"judge"};
  std::string judge = "models/judge";
  std::vector<std::string> panel;
  RewardFiles reward_files;
  std::string train_prompts;
  int64_t size = 0;
  int64_t threads = 0;
  DeviceOptions device;
  DistOptions dist;
  SetMetricOptions metrics;
  ModelSetOptions models;

  template <class V>
  void fields(V& v) {
    v("a", a,
      "the image set to evaluate: folders, images or lists (CSV, JSON Lines) of images with "
      "prompts; or a model folder, a LoRA or base, whose images are sampled first");
    v("b", b, "the reference set, usually the base model's images; empty: a alone");
    v("base", base,
      "a second set of base images from other noise, whose distance to b is the floor; empty: "
      "halves of b, or images of other seeds if b is a model");
    v("out", out, "folder of metrics.json and metrics.html");
    v("features", features,
      "feature networks: [judge, dreamsim=DIR, inception-v3=FILE] (docs/metrics.md)");
    v("judge", judge, "folder of the judge");
    v("panel", panel, "rewards to score by, [colorfulness, emoji-clip]");
    reward_files.fields(v);
    v("train_prompts", train_prompts,
      "file of training prompts, to count the prompts of a that are among them");
    v("size", size, "size in pixels that images are resized to first; 0: no resizing",
      range(0, 8192));
    v("threads", threads, "CPU threads; 0: all", range(0, 1024));
    device.fields(v);
    v.section("dist", dist);
    v.section("metrics", metrics);
    v.section("models", models);
  }
};

/// Compares what the sets hold; `a`, `b` and `base` may come from a model as well as from files.
/// The processes of `group` measure the images between them, and rank 0 writes.
void compare_and_report(const MetricsConfig& config, ImageSet a, std::optional<ImageSet> b,
                        std::optional<ImageSet> base, const Group& group = {});

/// Reads the sets that the configuration names, and does that.
void run_metrics(const MetricsConfig& config, const Group& group = {});

}  // namespace vggflow
