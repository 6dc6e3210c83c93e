#include "vggflow/page/watch.h"

#include "vggflow/cli/command.h"
#include "vggflow/cli/commands.h"
#include "vggflow/core/log.h"

namespace vggflow::cli {

int watch(const Call& call) {
  WatchConfig config;
  const Syntax syntax{.positionals = {{"runs", true}},
                      .flags = {{"--port", "port"}, {"--address", "address"}},
                      .required = {"runs"},
                      .notes = "docs/watch.md shows the page and says who can reach it.",
                      .opens_nothing = true};
  if (!read_settings(call, syntax, config)) return kDone;
  catch_interrupts();
  vggflow::watch(config);
  return kDone;
}

}  // namespace vggflow::cli
