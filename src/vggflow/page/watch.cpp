#include "vggflow/page/watch.h"

#include <filesystem>

#include "vggflow/core/error.h"
#include "vggflow/core/log.h"
#include "vggflow/core/result.h"
#include "vggflow/page/live_page.h"
#include "vggflow/page/web_server.h"

namespace vggflow {

void watch(const WatchConfig& config) {
  constexpr size_t kMostRuns = 10;  // as many as there are colours
  VGGFLOW_CHECK(!config.runs.empty() && config.runs.size() <= kMostRuns,
                "[watch] expected 1 to {} run folders, got {}", kMostRuns, config.runs.size());
  for (const std::string& run : config.runs)
    VGGFLOW_CHECK(std::filesystem::is_directory(run),
                  "[watch] expected a run folder of vggflow align, got {}, which is no folder",
                  run);
  LivePage page({config.runs.begin(), config.runs.end()});
  const WebServer server({.address = config.address, .port = config.port},
                         [&](const WebRequest& request) { return page.get(request); });
  print_result(server.url());
  log_line("this page is read only; Ctrl-C ends it, and the runs go on");
  serve_until_interrupted();
}

}  // namespace vggflow
