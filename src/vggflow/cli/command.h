#pragma once
// What every command does first: read its settings from the words of the call, or show its help.

#include <optional>
#include <string>
#include <vector>

#include "vggflow/core/command_line.h"
#include "vggflow/core/config.h"
#include "vggflow/core/help.h"

namespace vggflow::cli {

/// Exit codes of the program (docs/cli.md).
enum ExitCode : int { kDone = 0, kFailed = 1, kUsage = 2, kInterrupted = 130 };

/// Prints the help that the line asks for; false where it asks for none.
bool show_help(const CommandLine& line, const Call& call, const Syntax& syntax,
               const Fields& fields);

/// Sets `config` from the file and the words; none where help was asked for and shown instead.
/// Throws UsageError.
template <class Config>
std::optional<CommandLine> read_settings(const Call& call, const Syntax& syntax, Config& config) {
  const Fields fields = fields_of(config);
  CommandLine line = parse_command_line(call, syntax, fields);
  if (show_help(line, call, syntax, fields)) return std::nullopt;
  apply_command_line(line, call, syntax, fields);
  return line;
}

}  // namespace vggflow::cli
