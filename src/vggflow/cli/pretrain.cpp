#include "vggflow/train/pretrain.h"

#include "vggflow/cli/commands.h"
#include "vggflow/cli/run_folder.h"

namespace vggflow::cli {

void pretrain(const ConfigArguments& arguments) {
  PretrainConfig config;
  open_run(config, arguments);
  pretrain_flow(config);
}

}  // namespace vggflow::cli
