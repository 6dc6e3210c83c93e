#include "vggflow/cli/command.h"
#include "vggflow/cli/commands.h"
#include "vggflow/cli/ranks.h"
#include "vggflow/convert/lora_export.h"
#include "vggflow/core/log.h"
#include "vggflow/core/result.h"
#include "vggflow/core/shipped_files.h"

namespace vggflow::cli {
namespace {

Syntax syntax() {
  return {.positionals = {{"lora"}, {"out"}},
          .flags = {{"--format", "format"},
                    {"--dtype", "dtype"},
                    {"--model", "model"},
                    {"--lora-text-encoders", "lora_text_encoders"},
                    {"--model-config", "model_config"},
                    {"--variant", "variant"},
                    {"--revision", "revision"}},
          .required = {"lora", "out"},
          .notes =
              "Every file is read back and compared before the command succeeds. Layouts and "
              "who reads them: docs/lora.md."};
}

}  // namespace

int export_lora(const Call& call) {
  ExportOptions options;
  if (!read_settings(call, syntax(), options)) return kDone;
  require_one_process(call);
  print_result(vggflow::export_lora(options));
  return kDone;
}

}  // namespace vggflow::cli
