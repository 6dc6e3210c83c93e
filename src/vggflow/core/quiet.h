#pragma once
// Processes of one run share a terminal, which one of them has.

namespace vggflow {

/// From now on lines go to the log file alone (log.h), and there is no status line. Errors that end
/// the program are printed as ever.
void keep_off_terminal();

}  // namespace vggflow
