#pragma once
// The grammar that all commands share:
//
//   vggflow COMMAND [WHAT ...] [--config FILE] [key=value ...] [--flag [value] ...]
//
// --trust WORDS (or trust=WORDS) stands outside of the settings: a file cannot say it (trust.h).
// Everything that a command takes is a field of its settings (config.h). A Syntax says which fields
// may also be given as positionals, for what the command is about, and which have a flag. Help is
// made from the same list (help.h).

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "vggflow/core/config.h"

namespace vggflow {

/// A field that is given by its place: the word, or with `rest` all further words, is its value.
struct Positional {
  std::string key;
  bool rest = false;
};

/// A field under another name: "--lora FILE" is generator.lora=FILE. Of a field that holds true or
/// false the value may be left out; a list's flag may be given several times, one entry each.
struct Flag {
  std::string name, key;
};

/// The flags of every command.
inline const std::vector<std::string> kOwnFlags{"--config", "--trust", "--help", "--help-all"};

/// Names and explanations.
using HelpRows = std::vector<std::pair<std::string, std::string>>;

/// What a command's words may be.
struct Syntax {
  std::vector<Positional> positionals = {};
  std::vector<Flag> flags = {};
  std::vector<std::string> common = {};    ///< keys of the short help, besides those above
  std::vector<std::string> required = {};  ///< keys that must have a value
  std::string too_many = {};               ///< what to do instead of a positional too many
  HelpRows file_keys = {};                 ///< of the file that the command reads, for the help
  std::string notes = {};                  ///< the end of the help
  /// The file and key=value of keys that are no fields are the command's own to read.
  bool reads_file = false;
  /// What the settings name is not opened, so that none of it needs consent (trust.h).
  bool opens_nothing = false;
};

/// Takes what a command's words may be and its fields, in place of running it.
using Description = std::function<void(const Syntax& syntax, const Fields& fields)>;

/// A command as it was called.
struct Call {
  std::string command, summary;
  std::vector<std::string> words;  ///< those after the command's name
  /// Where it is set, the command tells it what it takes, and does nothing else (`vggflow docs`).
  Description describe = nullptr;
};

/// The words, sorted.
struct CommandLine {
  enum class Help { kNone, kShort, kAll };
  Help help = Help::kNone;
  std::string file;                   ///< of --config
  std::vector<std::string> settings;  ///< key=value; positionals and flags are written out
  std::vector<std::string> others;    ///< those that a command with reads_file reads itself
  std::vector<std::string> trust;     ///< of --trust: kinds of rewards that a file may name
};

/// Sorts the words. Throws UsageError for an unknown flag (naming the nearest), a flag without its
/// value, a word that is no setting where the command takes no positional (or no more), a --config
/// that is no file.
CommandLine parse_command_line(const Call& call, const Syntax& syntax, const Fields& fields);

/// Sets the fields: first the file, unless the command reads it, then the settings in their order.
/// Throws UsageError for what config.h refuses and for a required key without value.
void apply_command_line(const CommandLine& line, const Call& call, const Syntax& syntax,
                        const Fields& fields);

/// "vggflow export LORA OUT [--config FILE] [key=value ...]".
std::string usage_line(const Call& call, const Syntax& syntax);

/// The name of a positional in help and errors: LORA, IMAGES.
std::string shown_name(const Positional& positional);

}  // namespace vggflow
