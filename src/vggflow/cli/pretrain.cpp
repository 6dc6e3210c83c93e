#include "vggflow/pretrain/pretrain.h"

#include "vggflow/cli/commands.h"
#include "vggflow/cli/run_folder.h"

namespace vggflow::cli {

void pretrain(const ConfigArguments& arguments) {
  PretrainConfig config;
  read_config(config, arguments);
  open_run(config);
  vggflow::pretrain(config);
}

}  // namespace vggflow::cli
