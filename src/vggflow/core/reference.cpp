#include "vggflow/core/reference.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <sstream>
#include <variant>

#include "vggflow/core/help.h"

namespace vggflow {
namespace {

constexpr size_t kWidth = 100;

SettingPage setting_page(const Field& field) {
  SettingPage page{field.key, typed_text(field), type_text(field), field.comment, field.choices};
  page.is_bool = std::holds_alternative<bool*>(field.target);
  page.is_list = is_list(field);
  return page;
}

// Signs that Markdown would read, outside of code.
std::string escaped(const std::string& text) {
  std::string out;
  bool code = false;
  for (const char c : text) {
    if (c == '`') code = !code;
    if (!code && (c == '*' || c == '<' || c == '|')) out += '\\';
    out += c;
  }
  return out;
}

// A list's entry, wrapped. A line that would begin with a sign of a block gets it escaped.
std::string item(const std::string& text) {
  std::istringstream lines(wrapped("- " + text, kWidth - 2));
  std::string out;
  for (std::string line; std::getline(lines, line);) {
    const bool opens = line.size() > 1 && line[1] == ' ' &&
                       std::string("-+>#=").find(line[0]) != std::string::npos;
    if (out.empty()) {
      out = line + "\n";
    } else {
      out += "  " + std::string(opens ? "\\" : "") + line + "\n";
    }
  }
  return out;
}

std::string kind_text(const SettingPage& s) {
  if (s.choices.empty()) return s.type;
  std::vector<std::string> quoted;
  for (const std::string& word : s.choices) quoted.push_back("`" + word + "`");
  return fmt::format("{} {}", s.is_list ? "a list of" : "one of", fmt::join(quoted, ", "));
}

std::string setting_item(const SettingPage& s) {
  const bool long_value = s.value.size() > 60;
  const std::string head = fmt::format("`{}={}`", s.key, long_value ? "..." : s.value);
  const std::string text = fmt::format("{} ({}): {}.", head, kind_text(s), escaped(s.comment));
  return item(long_value ? fmt::format("{} Default: `{}`.", text, s.value) : text);
}

std::string settings_text(const CommandPage& page) {
  std::string out;
  for (const std::string& section : sections_of(page.settings)) {
    std::string items;
    for (const SettingPage& s : page.settings) {
      if (section_of(s.key) == section) items += setting_item(s);
    }
    if (items.empty()) continue;
    out +=
        section.empty() ? "\n## Settings\n\n" : fmt::format("\n## Settings of `{}`\n\n", section);
    out += items;
  }
  return out;
}

std::string words_text(const CommandPage& page) {
  std::string out;
  for (const auto& [name, comment] : page.words)
    out += item(fmt::format("`{}`: {}.", name, escaped(comment)));
  for (const auto& [name, text] : {kConfigHelp, kTrustHelp})
    out += item(fmt::format("`{}`: {}.", name, text));
  for (const Flag& f : page.flags) out += item(fmt::format("`{}`: sets `{}`.", f.name, f.key));
  return out;
}

// ---- roff

std::string roff(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else {
      out += c;
    }
  }
  // A line must not begin with a request.
  return !out.empty() && (out[0] == '.' || out[0] == '\'') ? "\\&" + out : out;
}

std::string roff_item(const std::string& name, const std::string& text) {
  return fmt::format(".TP\n.B {}\n{}\n", roff(name), roff(text));
}

std::string roff_command(const CommandPage& page) {
  std::string out = fmt::format(".SS {}\n{}\n.PP\n.B {}\n", roff(page.name), roff(page.summary),
                                roff(page.usage));
  for (const auto& [name, comment] : page.words) out += roff_item(name, comment);
  for (const auto& [name, text] : {kConfigHelp, kTrustHelp}) out += roff_item(name, text);
  for (const Flag& f : page.flags) out += roff_item(f.name, "Sets " + f.key + ".");
  for (const SettingPage& s : page.settings)
    out += roff_item(s.key + "=" + s.value, fmt::format("{} ({})", s.comment, s.type));
  for (const auto& [name, text] : page.file_keys) out += roff_item(name, text);
  if (!page.notes.empty()) out += fmt::format(".PP\n{}\n", roff(page.notes));
  return out;
}

}  // namespace

CommandPage command_page(const Call& call, const Syntax& syntax, const Fields& fields) {
  CommandPage page{call.command, call.summary, usage_line(call, syntax), {},
                   syntax.flags, {},           syntax.file_keys,         syntax.notes};
  for (const Positional& p : syntax.positionals)
    page.words.emplace_back(shown_name(p), field_of(fields, p.key)->comment);
  for (const Field& f : fields) page.settings.push_back(setting_page(f));
  return page;
}

std::string reference_page(const CommandPage& page) {
  std::string out = fmt::format("# vggflow {}\n\n{}\n\n```\n{}\n```\n\n{}", page.name,
                                escaped(page.summary), page.usage, words_text(page));
  out += settings_text(page);
  if (!page.file_keys.empty()) out += "\n## Keys of the file\n\n";
  for (const auto& [name, text] : page.file_keys)
    out += item(fmt::format("`{}`: {}.", name, escaped(text)));
  if (!page.notes.empty()) out += "\n## Notes\n\n" + wrapped(escaped(page.notes), kWidth);
  return out;
}

std::string reference_index(const std::vector<CommandPage>& pages) {
  std::string out =
      "# The commands\n\nThese pages are made by `vggflow docs` from the lists that the program "
      "itself reads.\nThe test `tool.docs` compares them. [cli.md](../cli.md) explains the "
      "grammar.\n\n";
  for (const CommandPage& p : pages)
    out += item(fmt::format("[{0}]({0}.md): {1}", p.name, escaped(p.summary)));
  return out;
}

std::string man_page(const std::vector<CommandPage>& pages, const std::string& version) {
  std::string out = fmt::format(
      ".TH VGGFLOW 1 \"\" \"vggflow {}\"\n.SH NAME\nvggflow \\- align flow\\-matching image models "
      "with differentiable rewards\n.SH SYNOPSIS\n.B vggflow\nCOMMAND [WHAT ...] [\\-\\-config "
      "FILE] [key=value ...]\n.SH DESCRIPTION\nEvery setting is a key=value, on the command line "
      "or in a file of YAML.\n\\-\\-help of a command lists the common ones, \\-\\-help\\-all "
      "every "
      "one.\n.SH COMMANDS\n",
      version);
  for (const CommandPage& p : pages) out += roff_command(p);
  return out +
         ".SH EXIT STATUS\n.TP\n.B 0\ndone\n.TP\n.B 1\nan error, or something that was checked "
         "does not hold\n.TP\n.B 2\nthe command line or the settings cannot be understood\n.TP\n.B "
         "130\ninterrupted; what is done is saved\n";
}

}  // namespace vggflow
