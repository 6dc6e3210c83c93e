#include "vggflow/core/completion.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "vggflow/core/shell_word.h"

namespace vggflow {
namespace {

using Words = std::vector<std::string>;

// Of a list there is no word that is a value.
Words values_of(const SettingPage& s) {
  if (s.is_list) return {};
  return s.is_bool ? Words{"true", "false"} : s.choices;
}

Words flags_of(const CommandPage& page) {
  Words all = kOwnFlags;
  for (const Flag& f : page.flags) all.push_back(f.name);
  return all;
}

Words names_of(const std::vector<CommandPage>& pages) {
  Words all;
  for (const CommandPage& p : pages) all.push_back(p.name);
  return all;
}

// "  'align method') words='...' ;;", one row per setting with known values.
std::string value_cases(const std::vector<CommandPage>& pages, const char* format) {
  std::string out;
  for (const CommandPage& p : pages) {
    for (const SettingPage& s : p.settings) {
      if (!values_of(s).empty())
        out += fmt::format(fmt::runtime(format), shell_word(p.name + " " + s.key),
                           fmt::format("{}", fmt::join(values_of(s), " ")));
    }
  }
  return out;
}

std::string bash(const std::vector<CommandPage>& pages) {
  std::string commands;
  for (const CommandPage& p : pages) {
    Words words = flags_of(p);
    for (const SettingPage& s : p.settings) words.push_back(s.key + "=");
    commands += fmt::format("    {}) words={} ;;\n", p.name,
                            shell_word(fmt::format("{}", fmt::join(words, " "))));
  }
  // Bash cuts words at '=': "key=value" comes as three.
  return fmt::format(R"(# Completion of vggflow for bash, made by: vggflow docs completion=bash
_vggflow() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} command=${{COMP_WORDS[1]}} words= key=
  if [ "$COMP_CWORD" = 1 ]; then
    mapfile -t COMPREPLY < <(compgen -W '{} --help --version' -- "$word")
    return
  fi
  if [ "$word" = "=" ]; then
    key=$before word=
  elif [ "$before" = "=" ]; then
    key=${{COMP_WORDS[COMP_CWORD-2]}}
  fi
  if [ -n "$key" ]; then
    case "$command $key" in
{}    esac
  else
    case $command in
{}    esac
  fi
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
  [[ ${{COMPREPLY[0]-}} != *= ]] || compopt -o nospace 2>/dev/null
  if [ ${{#COMPREPLY[@]}} = 0 ]; then
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$word")
  fi
}}
complete -F _vggflow vggflow
)",
                     fmt::join(names_of(pages), " "),
                     value_cases(pages, "      {}) words='{}' ;;\n"), commands);
}

std::string zsh(const std::vector<CommandPage>& pages) {
  std::string summaries, commands;
  for (const CommandPage& p : pages) {
    Words keys;
    for (const SettingPage& s : p.settings) keys.push_back(s.key + "=");
    summaries += fmt::format("    {}\n", shell_word(p.name + ":" + p.summary));
    commands += fmt::format("    {}) flags=({}); keys=({}) ;;\n", p.name,
                            fmt::join(flags_of(p), " "), fmt::join(keys, " "));
  }
  return fmt::format(R"(#compdef vggflow
# Completion of vggflow for zsh, made by: vggflow docs completion=zsh
_vggflow() {{
  local -a commands flags keys values
  commands=(
{}  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  if [[ $PREFIX == *=* ]]; then
    case "$words[2] ${{PREFIX%%=*}}" in
{}    esac
    compset -P '*='
    if (( $#values )); then compadd -a values; else _files; fi
    return
  fi
  case $words[2] in
{}  esac
  compadd -S '' -a keys
  compadd -a flags
  _files
}}
_vggflow "$@"
)",
                     summaries, value_cases(pages, "      {}) values=({}) ;;\n"), commands);
}

std::string fish(const std::vector<CommandPage>& pages) {
  std::string out = "# Completion of vggflow for fish, made by: vggflow docs completion=fish\n";
  for (const CommandPage& p : pages)
    out += fmt::format("complete -c vggflow -n __fish_use_subcommand -f -a {} -d {}\n", p.name,
                       shell_word(p.summary));
  for (const CommandPage& p : pages) {
    const std::string head =
        fmt::format("complete -c vggflow -n '__fish_seen_subcommand_from {}'", p.name);
    for (const std::string& flag : flags_of(p))
      out += fmt::format("{} -l {}\n", head, flag.substr(2));
    for (const SettingPage& s : p.settings) {
      Words words;
      for (const std::string& value : values_of(s)) words.push_back(s.key + "=" + value);
      if (words.empty()) words.push_back(s.key + "=");
      out +=
          fmt::format("{} -a {} -d {}\n", head,
                      shell_word(fmt::format("{}", fmt::join(words, " "))), shell_word(s.comment));
    }
  }
  return out;
}

}  // namespace

std::string completion(Shell shell, const std::vector<CommandPage>& pages) {
  switch (shell) {
    case Shell::kNone:
      return "";
    case Shell::kBash:
      return bash(pages);
    case Shell::kZsh:
      return zsh(pages);
    case Shell::kFish:
      return fish(pages);
  }
  return "";
}

}  // namespace vggflow
