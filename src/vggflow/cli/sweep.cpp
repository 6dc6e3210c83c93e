#include "vggflow/eval/sweep.h"

#include "vggflow/cli/command.h"
#include "vggflow/cli/commands.h"
#include "vggflow/cli/ranks.h"

namespace vggflow::cli {
namespace {

Syntax syntax() {
  return {.common = {"out", "strengths", "reward", "reward_weights", "prompts.eval", "threads",
                     "device", "generator.model", "generator.lora", "generator.guidance",
                     "generator.time_grid.steps", "eval.prompts", "eval.images", "eval.seed"}};
}

}  // namespace

int sweep(const Call& call) {
  SweepConfig config;
  if (!read_settings(call, syntax(), config)) return kDone;
  return on_ranks(config.eval.device, config.eval.dist, fields_of(config),
                  [&](const Group& group) { run_sweep(config, group); });
}

}  // namespace vggflow::cli
