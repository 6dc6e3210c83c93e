#include <fmt/format.h>

#include <cstdio>

#include "vggflow/cli/checks.h"
#include "vggflow/core/log.h"

namespace vggflow::cli {

void check_value_gradient(const ValueGradientOptions& options, const RewardFiles& files) {
  const Stopwatch watch;
  fmt::print("{} trajectories of held-out prompts, {}\n", options.prompts, options.flow.model);
  vggflow::check_value_gradient(options, files, [&](const ValueGradientTable& table) {
    fmt::print("{}, guidance {}, grid {}\n", table.reward, table.guidance, table.grid);
    fmt::print("  {:<20} {:>6} {:>8} {:>16} {:>16} {:>8} {:>8}\n", "g", "pulls", "F+J+B", "cosine",
               "gain", "|g|/|a|", "error");
    for (const ValueGradientRow& r : table.rows) {
      fmt::print(
          "  {:<20} {:>6} {:>8.1f} {:>9.3f} +- {:.3f} {:>9.3f} +- {:.3f} {:>8.2f} {:>8.2f}\n",
          r.name, r.pulls, r.passes, r.cosine.mean, r.cosine.error, r.gain.mean, r.gain.error,
          r.ratio, r.error);
    }
    std::fflush(stdout);
  });
  fmt::print("{:.0f} s\n", watch.seconds());
}

}  // namespace vggflow::cli
