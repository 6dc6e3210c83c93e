#include "vggflow/cli/commands.h"
#include "vggflow/convert/lora_export.h"
#include "vggflow/convert/sd3_write.h"
#include "vggflow/core/log.h"

namespace vggflow::cli {

void export_command(const ExportOptions& options) { log_info("{}", export_lora(options)); }
void convert_command(const ConvertOptions& options) { log_info("{}", convert_model(options)); }

}  // namespace vggflow::cli
