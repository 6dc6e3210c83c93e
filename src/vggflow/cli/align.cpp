#include "vggflow/cli/commands.h"
#include "vggflow/cli/run_folder.h"
#include "vggflow/report/report.h"
#include "vggflow/train/checks.h"

namespace vggflow::cli {

void align(const ConfigArguments& arguments) {
  AlignConfig config;
  read_config(config, arguments);
  const DeviceScope device(config.device);
  check_run(config);  // before there is a folder, which would refuse the next attempt
  open_run(config);
  log_info("device: {}", device.description());
  if (!vggflow::align(config)) return;
  write_report(config.run);
  log_info("report: {}/report.html", config.run);
}

}  // namespace vggflow::cli
