#pragma once
// Help for a person: settings by section, wrapped at the terminal's width.

#include <cstddef>
#include <string>

#include "vggflow/core/command_line.h"

namespace vggflow {

/// Columns of the terminal: the variable COLUMNS, else what standard output's terminal says, else
/// 100.
size_t terminal_width();

/// Text in lines of at most `width` columns that begin with `indent` spaces; words that are longer
/// are cut. Line breaks are kept.
std::string wrapped(const std::string& text, size_t width, size_t indent = 0);

/// A field's value as a person types it: YAML without the quotes that it does not need.
std::string typed_text(const Field& field);

/// What --trust WORDS is.
inline constexpr const char* kTrustHelp =
    "plugins, torchscript, http: rewards of these kinds may be opened though a file of settings "
    "names them; trust=WORDS is the same";

/// Rows of a name and its explanation in two columns; a long name stands on a line of its own.
std::string help_rows(const HelpRows& rows, size_t width);

/// The help of a command: what it does, how it is called, its flags, and its settings by section
/// with defaults: the common ones, or with `all` every one.
std::string command_help(const Call& call, const Syntax& syntax, const Fields& fields, bool all,
                         size_t width);

}  // namespace vggflow
