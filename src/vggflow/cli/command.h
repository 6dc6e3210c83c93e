#pragma once
// What every command does first: read its settings from the words of the call, or show its help.

#include <optional>
#include <string>
#include <vector>

#include "vggflow/core/command_line.h"
#include "vggflow/core/config.h"
#include "vggflow/core/help.h"
#include "vggflow/core/trust.h"

namespace vggflow::cli {

/// Exit codes of the program (docs/cli.md).
enum ExitCode : int { kDone = 0, kFailed = 1, kUsage = 2, kInterrupted = 130 };

/// Prints the help that the line asks for; false where it asks for none.
bool show_help(const CommandLine& line, const Call& call, const Syntax& syntax,
               const Fields& fields);

/// Sets `config` from the file and the words; none where help or a description was asked for and
/// given instead. Throws UsageError, also where the file names a reward that needs consent.
template <class Config>
std::optional<CommandLine> read_settings(const Call& call, const Syntax& syntax, Config& config) {
  const Fields fields = fields_of(config);
  if (call.describe) {
    call.describe(syntax, fields);
    return std::nullopt;
  }
  CommandLine line = parse_command_line(call, syntax, fields);
  if (show_help(line, call, syntax, fields)) return std::nullopt;
  apply_command_line(line, call, syntax, fields);
  if (!syntax.opens_nothing) check_trust(line, call.command, fields, line.settings);
  return line;
}

}  // namespace vggflow::cli
