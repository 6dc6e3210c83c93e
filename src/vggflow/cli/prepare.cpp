#include "vggflow/pretrain/prepare.h"

#include "vggflow/cli/command.h"
#include "vggflow/cli/commands.h"
#include "vggflow/cli/ranks.h"
#include "vggflow/cli/run_folder.h"

namespace vggflow::cli {

int prepare(const Call& call) {
  PrepareConfig config;
  if (!read_settings(call, {.required = {"photos"}}, config)) return kDone;
  require_one_process(call);
  const auto device = open_device(config.device);
  vggflow::prepare(config);
  return kDone;
}

}  // namespace vggflow::cli
