#include "vggflow/report/report.h"

#include <cstdio>

#include "vggflow/cli/commands.h"

namespace vggflow::cli {

void report(const std::vector<std::string>& runs) {
  if (runs.size() > 1) {
    std::fputs(comparison_markdown({runs.begin(), runs.end()}).c_str(), stdout);
    return;
  }
  write_report(runs.front());
  std::printf("%s\n", (std::filesystem::path(runs.front()) / "report.html").c_str());
}

}  // namespace vggflow::cli
