#pragma once
// Consent to what a file of settings would run or send. A reward may be a plug-in, a TorchScript
// module or an HTTP judge: foreign code, or images that leave the process. Who types such a name
// means it. A file from elsewhere may hold one unseen, so its names need a word of consent on the
// command line: trust=plugins,torchscript,http, or --trust.

#include <string>
#include <vector>

#include "vggflow/core/command_line.h"

namespace vggflow {

/// The words of consent that the rewards named by these fields need, without those of fields that
/// the command line sets (`given`, key=value each). Reward names stand in keys that end in reward,
/// rewards or panel.
std::vector<std::string> needed_trust(const Fields& fields,
                                      const std::vector<std::string>& given = {});

/// " trust=plugins,http", the end of a command that goes on from a file; empty where none is
/// needed.
std::string trust_setting(const Fields& fields);

/// Throws UsageError for a word of `line.trust` that is none, and where a file of settings names a
/// reward that needs consent and the line does not give it. `given`: the settings of the line.
void check_trust(const CommandLine& line, const std::string& command, const Fields& fields,
                 const std::vector<std::string>& given);

}  // namespace vggflow
