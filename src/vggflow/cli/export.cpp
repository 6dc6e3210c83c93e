#include "vggflow/cli/commands.h"
#include "vggflow/core/log.h"
#include "vggflow/models/lora_export.h"

namespace vggflow::cli {

void export_command(const ExportOptions& options) { log_info("{}", export_lora(options)); }

}  // namespace vggflow::cli
