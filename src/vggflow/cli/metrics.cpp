#include "vggflow/eval/metrics_run.h"

#include <filesystem>

#include "vggflow/cli/commands.h"
#include "vggflow/cli/run_folder.h"

namespace vggflow::cli {

// `metrics A B` is short for `metrics a=[A] b=[B]`: an argument that names something on the disk,
// or base, is a set.
void metrics(const ConfigArguments& arguments) {
  MetricsConfig config;
  ConfigArguments settings{arguments.file, {}};
  std::vector<std::string> sets;
  for (const std::string& argument : arguments.overrides) {
    const bool setting =
        argument.find('=') != std::string::npos && !std::filesystem::exists(argument);
    (setting ? settings.overrides : sets).push_back(argument);
  }
  VGGFLOW_CHECK(sets.size() <= 2,
                "[metrics] expected at most two sets, A and B, got {}; more folders of one set are "
                "a=[one, two]",
                sets.size());
  read_config(config, settings);
  if (!sets.empty()) config.a = {sets[0]};
  if (sets.size() > 1) config.b = {sets[1]};
  const auto device = open_device(config.device);
  run_metrics(config);
}

}  // namespace vggflow::cli
