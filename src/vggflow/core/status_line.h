#pragma once
// The last line of the terminal, which is redrawn in place while lines of the log pass above it.
// For progress.h.

#include <cstddef>
#include <string>

namespace vggflow {

/// Whether standard error is a terminal whose last line can be redrawn. TERM=dumb is none.
bool can_redraw();
/// Columns of that terminal now; 80 where it does not say.
size_t status_columns();
/// Shows a line without a line break, in place of the one before. It must fit the columns.
void show_status(const std::string& line);
void clear_status();
/// Since the last line of the log, or the program's start.
double seconds_since_line();

}  // namespace vggflow
