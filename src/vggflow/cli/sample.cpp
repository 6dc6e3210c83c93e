#include "vggflow/cli/commands.h"
#include "vggflow/cli/run_folder.h"
#include "vggflow/eval/sweep.h"

namespace vggflow::cli {

void sample(const ConfigArguments& arguments) {
  SampleConfig config;
  read_config(config, arguments);
  const auto device = open_device(config.device);
  sample_images(config);
}

void eval(const ConfigArguments& arguments) {
  EvalConfig config;
  read_config(config, arguments);
  const auto device = open_device(config.device);
  run_eval(config);
}

void sweep(const ConfigArguments& arguments) {
  SweepConfig config;
  read_config(config, arguments);
  const auto device = open_device(config.eval.device);
  run_sweep(config);
}

}  // namespace vggflow::cli
