#include "vggflow/train/align.h"

#include "vggflow/cli/commands.h"
#include "vggflow/cli/run_folder.h"
#include "vggflow/eval/report.h"

namespace vggflow::cli {

void align(const ConfigArguments& arguments) {
  AlignConfig config;
  open_run(config, arguments);
  if (!vggflow::align(config)) return;
  write_report(config.run);
  log_info("report: {}/report.html", config.run);
}

}  // namespace vggflow::cli
