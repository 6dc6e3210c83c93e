#pragma once
// Reference pages and the man page, from the same lists that help is made of, so that they cannot
// be out of date (`vggflow docs`).

#include <string>
#include <vector>

#include "vggflow/core/command_line.h"

namespace vggflow {

/// What a page needs of a setting. A copy: the fields that it is read from do not outlive their
/// command.
struct SettingPage {
  std::string key, value, type, comment;
  std::vector<std::string> choices;
  bool is_bool = false, is_list = false;
};

/// A command as its page shows it.
struct CommandPage {
  std::string name, summary, usage;
  HelpRows words;                     ///< what the positionals are
  std::vector<Flag> flags;            ///< each with the key that it sets
  std::vector<SettingPage> settings;  ///< in the order of the fields
  HelpRows file_keys;                 ///< of the file that the command reads
  std::string notes;
};

CommandPage command_page(const Call& call, const Syntax& syntax, const Fields& fields);

/// The command's page in Markdown, in lines of at most 100 characters.
std::string reference_page(const CommandPage& page);
/// The list of the pages.
std::string reference_index(const std::vector<CommandPage>& pages);
/// vggflow(1) in roff.
std::string man_page(const std::vector<CommandPage>& pages, const std::string& version);

}  // namespace vggflow
