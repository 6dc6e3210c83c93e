#include "vggflow/pretrain/prepare.h"

#include "vggflow/cli/commands.h"
#include "vggflow/cli/run_folder.h"

namespace vggflow::cli {

void prepare(const ConfigArguments& arguments) {
  PrepareConfig config;
  read_config(config, arguments);
  const auto device = open_device(config.device);
  vggflow::prepare(config);
}

}  // namespace vggflow::cli
