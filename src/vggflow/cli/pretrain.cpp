#include "vggflow/pretrain/pretrain.h"

#include "vggflow/cli/command.h"
#include "vggflow/cli/commands.h"
#include "vggflow/cli/ranks.h"
#include "vggflow/cli/run_folder.h"
#include "vggflow/core/interrupt.h"
#include "vggflow/core/log.h"
#include "vggflow/device/device.h"
#include "vggflow/eval/run.h"
#include "vggflow/train/run_folder.h"

namespace vggflow::cli {
namespace {

Syntax syntax() {
  return {.common = {"run", "target", "latents", "resume", "threads", "device", "fit.updates",
                     "fit.batch", "fit.optimizer.lr", "fit.seed"}};
}

}  // namespace

int pretrain(const Call& call) {
  PretrainConfig config;
  const auto line = read_settings(call, syntax(), config);
  if (!line) return kDone;
  require_one_process(call);
  check_settings_of_target(config);
  if (config.resume) check_not_moved(line->file, config.run);
  set_threads(config.threads);
  catch_interrupts_saying(kStopping);
  const DeviceScope device(config.device);
  const RunFolder folder(config.run);
  if (config.resume) {
    folder.go_on(config);
  } else {
    folder.begin();
  }
  open_log(std::filesystem::path(config.run) / "log.txt");
  log_info("device: {}", device.description());
  folder.save(config);
  vggflow::pretrain(config);
  return interrupted() ? kInterrupted : kDone;
}

}  // namespace vggflow::cli
