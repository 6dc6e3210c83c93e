#include "vggflow/train/align.h"

#include "vggflow/cli/commands.h"
#include "vggflow/cli/run_folder.h"

namespace vggflow::cli {

void align(const ConfigArguments& arguments) {
  AlignConfig config;
  open_run(config, arguments);
  vggflow::align(config);
}

}  // namespace vggflow::cli
