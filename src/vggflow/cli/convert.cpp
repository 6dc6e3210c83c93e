#include "vggflow/cli/command.h"
#include "vggflow/cli/commands.h"
#include "vggflow/cli/ranks.h"
#include "vggflow/convert/model_convert.h"
#include "vggflow/core/log.h"
#include "vggflow/core/result.h"

namespace vggflow::cli {
namespace {

Syntax syntax() {
  return {.positionals = {{"model"}, {"out"}},
          .flags = {{"--dtype", "dtype"},
                    {"--model-config", "model_config"},
                    {"--variant", "variant"},
                    {"--revision", "revision"}},
          .required = {"model", "out"}};
}

}  // namespace

int convert(const Call& call) {
  ConvertOptions options;
  if (!read_settings(call, syntax(), options)) return kDone;
  require_one_process(call);
  print_result(convert_model(options));
  return kDone;
}

}  // namespace vggflow::cli
