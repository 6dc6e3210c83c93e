#include "vggflow/report/report.h"

#include <cstdio>
#include <string>
#include <vector>

#include "vggflow/cli/command.h"
#include "vggflow/cli/commands.h"
#include "vggflow/core/log.h"
#include "vggflow/core/result.h"

namespace vggflow::cli {
namespace {

struct ReportConfig {
  std::vector<std::string> runs;
  template <class V>
  void fields(V& v) {
    v("runs", runs, "run folders; of several, a Markdown comparison is printed");
  }
};

}  // namespace

int report(const Call& call) {
  ReportConfig config;
  if (!read_settings(call, {.positionals = {{"runs", true}}, .required = {"runs"}}, config))
    return kDone;
  if (config.runs.size() > 1) {
    std::fputs(comparison_markdown({config.runs.begin(), config.runs.end()}).c_str(), stdout);
    return kDone;
  }
  write_report(config.runs.front());
  print_result((std::filesystem::path(config.runs.front()) / "report.html").string());
  return kDone;
}

}  // namespace vggflow::cli
