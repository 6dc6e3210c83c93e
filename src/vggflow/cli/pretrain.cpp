#include "vggflow/pretrain/pretrain.h"

#include "vggflow/cli/commands.h"
#include "vggflow/cli/run_folder.h"

namespace vggflow::cli {

void pretrain(const ConfigArguments& arguments) {
  PretrainConfig config;
  read_config(config, arguments);
  const DeviceScope device(config.device);
  open_run(config);
  log_info("device: {}", device.description());
  vggflow::pretrain(config);
}

}  // namespace vggflow::cli
