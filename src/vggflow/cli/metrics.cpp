#include "vggflow/cli/command.h"
#include "vggflow/cli/commands.h"
#include "vggflow/cli/ranks.h"
#include "vggflow/eval/metrics_run.h"

namespace vggflow::cli {
namespace {

Syntax syntax() {
  return {.positionals = {{"a"}, {"b"}},
          .common = {"base", "out", "features", "panel", "reward_weights", "train_prompts", "size",
                     "threads", "device", "models.prompt_count", "models.images", "models.seed"},
          .required = {"a"},
          .too_many = "more folders of one set are a=[one, two]",
          .notes = "What is measured and which networks it needs: docs/metrics.md."};
}

}  // namespace

int metrics(const Call& call) {
  MetricsConfig config;
  if (!read_settings(call, syntax(), config)) return kDone;
  return on_ranks(config.device, config.dist, fields_of(config),
                  [&](const Group& group) { run_metrics(config, group); });
}

}  // namespace vggflow::cli
