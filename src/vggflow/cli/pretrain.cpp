#include "vggflow/pretrain/pretrain.h"

#include "vggflow/cli/command.h"
#include "vggflow/cli/commands.h"
#include "vggflow/cli/run_folder.h"

namespace vggflow::cli {
namespace {

Syntax syntax() {
  return {.common = {"run", "target", "latents", "resume", "threads", "device", "fit.updates",
                     "fit.batch", "fit.optimizer.lr", "fit.seed"}};
}

}  // namespace

int pretrain(const Call& call) {
  PretrainConfig config;
  if (!read_settings(call, syntax(), config)) return kDone;
  const DeviceScope device(config.device);
  open_run(config);
  log_info("device: {}", device.description());
  vggflow::pretrain(config);
  return interrupted() ? kInterrupted : kDone;
}

}  // namespace vggflow::cli
