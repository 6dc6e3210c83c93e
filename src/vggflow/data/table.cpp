#include "vggflow/data/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/core/foreign_file.h"
#include "vggflow/core/json.h"
#include "vggflow/text/unicode.h"

namespace vggflow {
namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
namespace {

std::string ending(const fs::path& file) {
  std::string e = file.extension().string();
  std::transform(e.begin(), e.end(), e.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return e;
}

std::string lower(const std::string& text) {
  return unicode::encode(unicode::lower(unicode::decode(text)));
}

// One record of a CSV file from `at`, which is moved behind it. A quote opens only at a cell's
// beginning.
std::vector<std::string> read_record(const std::string& text, size_t& at, char separator,
                                     const fs::path& file, int64_t line) {
  std::vector<std::string> cells(1);
  bool quoted = false, fresh = true;
  while (at < text.size()) {
    const char c = text[at++];
    if (quoted) {
      if (c != '"') {
        cells.back() += c;
      } else if (at < text.size() && text[at] == '"') {
        cells.back() += text[at++];
      } else {
        quoted = false;
      }
    } else if (c == '"' && fresh) {
      quoted = true;
      fresh = false;
    } else if (c == separator) {
      cells.emplace_back();
      fresh = true;
    } else if (c == '\n') {
      return cells;
    } else {
      cells.back() += c;
      fresh = false;
    }
  }
  VGGFLOW_CHECK(!quoted, "[table] {}: a quote opened in the record at line {} is never closed",
                file.string(), line);
  return cells;
}

// Line ends of Windows (CR LF) and of old Macs (CR) as "\n", as Python's text files have them.
std::string with_newlines(const std::string& text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    const bool pair = text[i] == '\r' && i + 1 < text.size() && text[i + 1] == '\n';
    if (!pair) out += text[i] == '\r' ? '\n' : text[i];
  }
  return out;
}

bool is_blank(const std::vector<std::string>& cells) {
  return cells.size() == 1 && cells[0].empty();
}

Table read_separated(const fs::path& file, char separator) {
  const std::string text = read_utf8(file);
  Table table{file, {}, {}, {}};
  int64_t next_line = 1;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const int64_t line = next_line;
    std::vector<std::string> cells = read_record(text, at, separator, file, line);
    next_line += std::count(text.begin() + static_cast<std::ptrdiff_t>(begin),
                            text.begin() + static_cast<std::ptrdiff_t>(at), '\n');
    if (is_blank(cells)) continue;
    if (table.columns.empty()) {
      for (const std::string& name : cells) table.columns.push_back(lower(name));
      continue;
    }
    VGGFLOW_CHECK(cells.size() <= table.columns.size(),
                  "[table] {}:{}: expected at most {} cells as in the header, got {}. Put text "
                  "with separators in quotes",
                  file.string(), line, table.columns.size(), cells.size());
    cells.resize(table.columns.size());
    table.rows.push_back(std::move(cells));
    table.lines.push_back(line);
  }
  return table;
}

void set_cell(Table& table, const std::string& name, const Json& value) {
  const auto place = table.column(name);
  const size_t column = place.value_or(table.columns.size());
  if (!place) table.columns.push_back(name);
  auto& row = table.rows.back();
  row.resize(std::max(row.size(), column + 1));
  if (!value.is_null()) row[column] = value.is_string() ? value.get<std::string>() : value.dump();
}

void add_json(Table& table, const Json& value, int64_t line) {
  VGGFLOW_CHECK(value.is_string() || value.is_object(),
                "[table] {}:{}: expected a JSON object or string, got {}", table.file.string(),
                line, value.type_name());
  table.rows.emplace_back();
  table.lines.push_back(line);
  if (value.is_string()) return set_cell(table, "prompt", value);
  for (const auto& [name, member] : value.items()) set_cell(table, lower(name), member);
}

Json value_of(const std::string& text, const fs::path& file, int64_t line) {
  const Json value = try_parse_json(text);
  VGGFLOW_CHECK(!value.is_discarded(), "[table] {}:{}: not valid JSON, or nested too deeply",
                file.string(), line);
  return value;
}

Table read_json(const fs::path& file, bool lines) {
  Table table{file, {}, {}, {}};
  const std::string text = read_utf8(file);
  if (lines) {
    std::istringstream in(text);
    int64_t number = 0;
    for (std::string line; std::getline(in, line);) {
      ++number;
      if (line.find_first_not_of(" \t\r") != std::string::npos)
        add_json(table, value_of(line, file, number), number);
    }
  } else {
    const Json all = value_of(text, file, 1);
    VGGFLOW_CHECK(all.is_array(),
                  "[table] {}: expected a JSON array, got {}. One object per line is a .jsonl file",
                  file.string(), all.type_name());
    for (const Json& value : all)
      add_json(table, value, static_cast<int64_t>(table.rows.size()) + 1);
  }
  for (auto& row : table.rows) row.resize(table.columns.size());
  return table;
}

}  // namespace

std::optional<size_t> Table::column(const std::string& name) const {
  const auto found = std::find(columns.begin(), columns.end(), name);
  return found == columns.end() ? std::nullopt
                                : std::optional(static_cast<size_t>(found - columns.begin()));
}

bool is_table(const fs::path& file) {
  const std::string e = ending(file);
  return e == ".csv" || e == ".tsv" || e == ".jsonl" || e == ".ndjson" || e == ".json";
}

Table read_table(const fs::path& file) {
  VGGFLOW_CHECK(is_table(file),
                "[table] {}: expected a name that ends in .csv, .tsv, .jsonl, .ndjson or .json",
                file.string());
  const std::string e = ending(file);
  if (e == ".csv" || e == ".tsv") return read_separated(file, e == ".csv" ? ',' : '\t');
  return read_json(file, e != ".json");
}

std::string read_utf8(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  VGGFLOW_CHECK(in && !fs::is_directory(file), "[text] cannot read {}", file.string());
  std::stringstream bytes;
  bytes << in.rdbuf();
  refuse_foreign(bytes.view(), fmt::format("[text] {}", file.string()));
  const std::string text = with_newlines(bytes.str());
  int64_t number = 0;
  std::istringstream all(text);
  for (std::string line; std::getline(all, line);) {
    ++number;
    // Decoding replaces what is not UTF-8, so only valid text survives the way there and back.
    VGGFLOW_CHECK(
        line.find('\0') == std::string::npos && unicode::encode(unicode::decode(line)) == line,
        "[text] {}:{}: expected UTF-8 text. Save the file as UTF-8", file.string(), number);
  }
  return text.starts_with("\xEF\xBB\xBF") ? text.substr(3) : text;
}

}  // namespace vggflow
