#pragma once
// Prompts from a file: a text file of one prompt a line, or a table (CSV, TSV, JSON lines, a JSON
// array) with a column `prompt`.

#include <filesystem>
#include <string>
#include <vector>

namespace vggflow {

/// The prompts in the order of the file, without surrounding white space. Blank lines of a text
/// file are skipped; a table's empty cell, a table without the column, a file without prompts and
/// bad UTF-8 are refused. Prompts that occur twice are kept, and the log says so.
std::vector<std::string> read_prompts(const std::filesystem::path& file);

}  // namespace vggflow
