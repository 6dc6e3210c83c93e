#pragma once
// What a command was called for goes to standard output, what it says on the way to standard error
// (log.h).

#include <string>

namespace vggflow {

/// Writes a line to standard output and, once open_log was called, to the log file. Users and
/// passwords in addresses are left out (secret.h), as in log_line.
void print_result(const std::string& line);

}  // namespace vggflow
