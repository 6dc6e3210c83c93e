#include "vggflow/eval/score.h"

#include "vggflow/cli/commands.h"
#include "vggflow/core/config.h"

namespace vggflow::cli {

void score(const ScoreOptions& options) { run_score(with_settings(options)); }

std::string score_help() {
  ScoreOptions defaults;
  return help_text(fields_of(defaults));
}

}  // namespace vggflow::cli
