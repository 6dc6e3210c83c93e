#pragma once
// Help for a person: settings by section, wrapped at the terminal's width.

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

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

/// The flags of every command that take a value, and what they are.
using HelpRow = HelpRows::value_type;
inline const HelpRow kConfigHelp{"--config FILE",
                                 "file of settings (YAML); what the command line says wins"};
inline const HelpRow kTrustHelp{
    "--trust WORDS",
    "plugins, torchscript, http: rewards of these kinds may be opened though a file of settings "
    "names them; trust=WORDS is the same"};

/// The section of a key: "a.b" of "a.b.c".
std::string section_of(const std::string& key);

/// Sections of settings, which have a `key`, in the order of their first key; what lies in none
/// comes before them.
template <class List>
std::vector<std::string> sections_of(const List& settings) {
  std::vector<std::string> all{""};
  for (const auto& setting : settings) {
    const std::string section = section_of(setting.key);
    if (std::find(all.begin(), all.end(), section) == all.end()) all.push_back(section);
  }
  return all;
}

/// Rows of a name and its explanation in two columns; a long name stands on a line of its own.
std::string help_rows(const HelpRows& rows, size_t width);

/// The help of a command: what it does, how it is called, its flags, and its settings by section
/// with defaults: the common ones, or with `all` every one.
std::string command_help(const Call& call, const Syntax& syntax, const Fields& fields, bool all,
                         size_t width);

}  // namespace vggflow
