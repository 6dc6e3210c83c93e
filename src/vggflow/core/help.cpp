#include "vggflow/core/help.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <sstream>

#include "vggflow/core/error.h"

namespace vggflow {
namespace {

constexpr size_t kLeast = 30;   // columns that text still reads in
constexpr size_t kColumn = 30;  // where explanations begin
constexpr size_t kIndent = 2;

bool continues(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

// Columns of UTF-8 text, one per code point.
size_t columns(const std::string& text) {
  return text.size() - static_cast<size_t>(std::count_if(text.begin(), text.end(), continues));
}

// Bytes of the first `count` code points.
size_t bytes_of(const std::string& text, size_t count) {
  size_t i = 0;
  for (; i < text.size() && count > 0; --count) {
    do ++i;
    while (i < text.size() && continues(text[i]));
  }
  return i;
}

void wrap_line(const std::string& line, size_t room, std::vector<std::string>& out) {
  std::istringstream words(line);
  std::string now;
  for (std::string word; words >> word;) {
    if (!now.empty() && columns(now) + 1 + columns(word) > room) {
      out.push_back(now);
      now.clear();
    }
    for (; columns(word) > room; word = word.substr(bytes_of(word, room)))
      out.push_back(word.substr(0, bytes_of(word, room)));
    now += (now.empty() ? "" : " ") + word;
  }
  if (!now.empty() || line.empty()) out.push_back(now);
}

std::vector<std::string> lines_of(const std::string& text, size_t room) {
  std::vector<std::string> out;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) wrap_line(line, room, out);
  return out;
}

bool contains(const std::vector<std::string>& list, const std::string& word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

const Field& known(const Fields& fields, const std::string& key, const Call& call) {
  const Field* found = field_of(fields, key);
  VGGFLOW_CHECK(found, "[{}] expected the help's key to be a setting, got '{}'", call.command, key);
  return *found;
}

std::string value_name(const Field& field) {
  return std::holds_alternative<bool*>(field.target) ? "" : " VALUE";
}

HelpRows flag_rows(const Call& call, const Syntax& syntax, const Fields& fields, bool all) {
  HelpRows rows;
  for (const Positional& p : syntax.positionals)
    rows.emplace_back(shown_name(p), known(fields, p.key, call).comment);
  rows.push_back(kConfigHelp);
  for (const Flag& f : syntax.flags)
    rows.emplace_back(f.name + value_name(known(fields, f.key, call)), "the setting " + f.key);
  if (all) rows.push_back(kTrustHelp);
  rows.emplace_back(all ? "--help" : "--help-all",
                    all ? "the common settings alone" : "every setting");
  return rows;
}

std::pair<std::string, std::string> row_of(const Field& field) {
  constexpr size_t kShort = 24;
  const std::string value = typed_text(field), explained = field.comment + " (" + type_text(field);
  if (value.size() <= kShort) return {field.key + "=" + value, explained + ")"};
  return {field.key + "=...", explained + "; default " + value + ")"};
}

std::string settings_help(const Fields& shown, size_t width) {
  std::string out;
  for (const std::string& section : sections_of(shown)) {
    HelpRows rows;
    for (const Field& f : shown) {
      if (section_of(f.key) == section) rows.push_back(row_of(f));
    }
    if (rows.empty()) continue;
    out += fmt::format("\n{}:\n{}", section.empty() ? "Settings" : "Settings of " + section,
                       help_rows(rows, width));
  }
  return out;
}

Fields shown_fields(const Call& call, const Syntax& syntax, const Fields& fields, bool all) {
  std::vector<std::string> keys = syntax.common;
  for (const std::string& key : keys) known(fields, key, call);
  for (const Flag& f : syntax.flags) keys.push_back(f.key);
  for (const Positional& p : syntax.positionals) keys.push_back(p.key);
  Fields shown;
  for (const Field& f : fields) {
    if (all || syntax.common.empty() || contains(keys, f.key)) shown.push_back(f);
  }
  return shown;
}

}  // namespace

std::string section_of(const std::string& key) {
  const size_t dot = key.rfind('.');
  return dot == std::string::npos ? "" : key.substr(0, dot);
}

std::string typed_text(const Field& field) {
  std::string value = value_text(field);
  constexpr const char* kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./+-";
  if (value.size() < 2 || value.front() != '"') return value;
  const std::string inner = value.substr(1, value.size() - 2);
  return inner.find_first_not_of(kPlain) == std::string::npos ? inner : value;
}

size_t terminal_width() {
  if (const char* variable = std::getenv("COLUMNS")) {
    const long columns = std::strtol(variable, nullptr, 10);
    if (columns > 0) return static_cast<size_t>(columns);
  }
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 100;
}

std::string wrapped(const std::string& text, size_t width, size_t indent) {
  std::string out;
  for (const std::string& line : lines_of(text, std::max(width, indent + kLeast) - indent))
    out += (line.empty() ? "" : std::string(indent, ' ') + line) + "\n";
  return out;
}

std::string help_rows(const HelpRows& rows, size_t width) {
  const size_t column = width >= kColumn + kLeast ? kColumn : 3 * kIndent;
  std::string out;
  for (const auto& [name, text] : rows) {
    const std::string body = text.empty() ? "\n" : wrapped(text, width, column);
    if (kIndent + columns(name) + 2 > column) {
      out += wrapped(name, width, kIndent) + body;
    } else {
      const std::string head = std::string(kIndent, ' ') + name;
      out += head + body.substr(std::min(columns(head), body.size()));
    }
  }
  return out;
}

std::string command_help(const Call& call, const Syntax& syntax, const Fields& fields, bool all,
                         size_t width) {
  const Fields shown = shown_fields(call, syntax, fields, all);
  std::string out = fmt::format("{}\n{}\n{}{}", wrapped(call.summary, width),
                                wrapped(fmt::format("Usage: {}", usage_line(call, syntax)), width),
                                help_rows(flag_rows(call, syntax, fields, all), width),
                                settings_help(shown, width));
  if (shown.size() < fields.size()) {
    const std::string count = fmt::format(
        "These are {} of {} settings; --help-all shows every one.", shown.size(), fields.size());
    out += fmt::format("\n{}", wrapped(count, width));
  }
  if (!syntax.file_keys.empty())
    out += fmt::format("\nKeys of the file:\n{}", help_rows(syntax.file_keys, width));
  if (!syntax.notes.empty()) out += fmt::format("\n{}", wrapped(syntax.notes, width));
  return out;
}

}  // namespace vggflow
