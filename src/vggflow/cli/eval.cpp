#include "vggflow/cli/command.h"
#include "vggflow/cli/commands.h"
#include "vggflow/cli/ranks.h"
#include "vggflow/eval/run.h"

namespace vggflow::cli {
namespace {

Syntax syntax() {
  return {.common = {"out", "reward", "reward_weights", "prompts.eval", "split", "threads",
                     "device", "generator.model", "generator.lora", "generator.lora_scale",
                     "generator.guidance", "generator.time_grid.steps", "generator.guide.kind",
                     "eval.prompts", "eval.images", "eval.seed", "eval.panel"}};
}

}  // namespace

int eval(const Call& call) {
  EvalConfig config;
  if (!read_settings(call, syntax(), config)) return kDone;
  return on_ranks(config.device, config.dist, fields_of(config),
                  [&](const Group& group) { run_eval(config, group); });
}

}  // namespace vggflow::cli
