#include "vggflow/cli/command.h"

#include <cstdio>

namespace vggflow::cli {

bool show_help(const CommandLine& line, const Call& call, const Syntax& syntax,
               const Fields& fields) {
  if (line.help == CommandLine::Help::kNone) return false;
  const bool all = line.help == CommandLine::Help::kAll;
  std::fputs(command_help(call, syntax, fields, all, terminal_width()).c_str(), stdout);
  return true;
}

}  // namespace vggflow::cli
