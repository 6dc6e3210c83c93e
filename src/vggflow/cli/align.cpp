#include "vggflow/train/align.h"

#include "vggflow/cli/commands.h"
#include "vggflow/cli/run_folder.h"
#include "vggflow/core/interrupt.h"
#include "vggflow/core/log.h"
#include "vggflow/device/device.h"
#include "vggflow/eval/run.h"
#include "vggflow/report/report.h"

namespace vggflow::cli {

void align(const ConfigArguments& arguments) {
  AlignConfig config;
  read_config(config, arguments);
  if (config.resume) check_not_moved(arguments.file, config.run);
  set_threads(config.threads);
  catch_interrupts_saying(kStopping);
  const DeviceScope device(config.device);
  const RunEnd end = vggflow::align(config);
  if (end == RunEnd::kInterrupted) throw Interrupted();
  if (end == RunEnd::kFinishedBefore) return;
  write_report(config.run);
  log_info("report: {}/report.html", config.run);
}

}  // namespace vggflow::cli
