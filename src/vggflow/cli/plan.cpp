#include "vggflow/plan/plan.h"

#include <cstdio>

#include "vggflow/cli/commands.h"
#include "vggflow/cli/run_folder.h"
#include "vggflow/eval/run.h"
#include "vggflow/flow/precision.h"

namespace vggflow::cli {

void plan(const PlanArguments& arguments) {
  AlignConfig config;
  read_config(config, arguments.config);
  set_threads(config.threads);
  const ModelShape shape = read_model_shape(config.flow);
  std::vector<Device> devices = known_devices();
  devices.push_back(this_machine(precision_dtype(config.flow.precision), 1e9 * arguments.gflops));
  const Plan found = vggflow::plan(config, shape);
  const auto all = switches(config, shape);
  const std::string text = arguments.json ? plan_json(found, all, devices).dump(2) + "\n"
                                          : plan_text(config, shape, found, all, devices);
  std::fputs(text.c_str(), stdout);
}

}  // namespace vggflow::cli
