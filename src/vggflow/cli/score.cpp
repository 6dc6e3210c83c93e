#include "vggflow/eval/score.h"

#include "vggflow/cli/commands.h"

namespace vggflow::cli {

void score(const ScoreOptions& options) { run_score(options); }

}  // namespace vggflow::cli
