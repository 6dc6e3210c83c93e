#pragma once
// Names, prompts and messages of strangers on their way to a terminal.

#include <string>

namespace vggflow {

/// Text in which control characters but tabs and line ends stand as \x1b or \u009b: a terminal
/// obeys them, and would clear itself, take other titles or type for its user. All that is said
/// goes through this (log_line, print_result, Progress, the error that ends the program).
std::string visible(const std::string& text);

}  // namespace vggflow
