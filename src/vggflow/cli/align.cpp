#include "vggflow/train/align.h"

#include "vggflow/cli/command.h"
#include "vggflow/cli/commands.h"
#include "vggflow/cli/run_folder.h"
#include "vggflow/core/result.h"
#include "vggflow/report/report.h"
#include "vggflow/train/checks.h"

namespace vggflow::cli {
namespace {

Syntax syntax() {
  return {.common = {"run",           "method",       "resume",
                     "seed",          "threads",      "device",
                     "model",         "reward",       "reward_weights",
                     "prompts.train", "prompts.eval", "updates",
                     "batch",         "guidance",     "checkpointing",
                     "eval_every",    "lora_rank",    "time_grid.steps",
                     "vgg.beta",      "value.kind",   "policy_optimizer.lr",
                     "eval.prompts",  "eval.images"},
          .notes =
              "Files of settings to begin with: configs/nano.yaml, configs/sd3-medium. Methods: "
              "docs/methods.md."};
}

}  // namespace

int align(const Call& call) {
  AlignConfig config;
  if (!read_settings(call, syntax(), config)) return kDone;
  const DeviceScope device(config.device);
  check_run(config);  // before there is a folder, which would refuse the next attempt
  open_run(config);
  log_info("device: {}", device.description());
  if (!vggflow::align(config)) return kInterrupted;
  write_report(config.run);
  print_result("report: " + config.run + "/report.html");
  return kDone;
}

}  // namespace vggflow::cli
