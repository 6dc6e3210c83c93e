#include "vggflow/pretrain/pretrain.h"

#include "vggflow/cli/commands.h"
#include "vggflow/cli/run_folder.h"
#include "vggflow/core/interrupt.h"
#include "vggflow/core/log.h"
#include "vggflow/device/device.h"
#include "vggflow/eval/run.h"
#include "vggflow/train/run_folder.h"

namespace vggflow::cli {

void pretrain(const ConfigArguments& arguments) {
  PretrainConfig config;
  read_config(config, arguments);
  if (config.resume) check_not_moved(arguments.file, config.run);
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
  if (interrupted()) throw Interrupted();
}

}  // namespace vggflow::cli
