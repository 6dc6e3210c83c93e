#include "vggflow/eval/score.h"

#include "vggflow/cli/commands.h"
#include "vggflow/cli/run_folder.h"
#include "vggflow/core/config.h"

namespace vggflow::cli {

void score(const ScoreOptions& options) {
  const ScoreOptions all = with_settings(options);
  const auto device = open_device(all.device);
  run_score(all);
}

std::string score_help() {
  ScoreOptions defaults;
  return help_text(fields_of(defaults));
}

}  // namespace vggflow::cli
