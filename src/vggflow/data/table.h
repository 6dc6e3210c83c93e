#pragma once
// Tables that come as files: CSV or TSV with a header, JSON lines, a JSON array. Cells are text;
// files lie, so every refusal names file and line.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace vggflow {

struct Table {
  std::filesystem::path file;
  std::vector<std::string> columns;  ///< in lower case, in the order of the file
  std::vector<std::vector<std::string>>
      rows;  ///< a cell a column; empty where a JSON object lacks the member
  std::vector<int64_t>
      lines;  ///< where each row begins, from 1; in a JSON array: the element's place
  std::optional<size_t> column(const std::string& name) const;
};

/// Whether the name ends in .csv, .tsv, .jsonl, .ndjson or .json.
bool is_table(const std::filesystem::path& file);

/// Reads a table by the ending of its name. CSV as in RFC 4180 (quotes, doubled quotes, line breaks
/// within quotes); a JSON string stands for
/// {"prompt": string}, other JSON values become their text. Throws for bad UTF-8, an open quote, a
/// row longer than the header, broken JSON.
Table read_table(const std::filesystem::path& file);

/// The bytes of a text file without a byte-order mark. Throws for what is not UTF-8 or holds a zero
/// byte (UTF-16), naming the line.
std::string read_utf8(const std::filesystem::path& file);

}  // namespace vggflow
