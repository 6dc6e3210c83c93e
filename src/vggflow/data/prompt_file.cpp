#include "vggflow/data/prompt_file.h"

#include <fmt/format.h>

#include <cstdint>
#include <map>
#include <sstream>
#include <utility>

#include "vggflow/core/listing.h"
#include "vggflow/core/log.h"
#include "vggflow/data/table.h"

namespace vggflow {
namespace fs = std::filesystem;
namespace {

std::string trim(const std::string& text) {
  constexpr const char* kSpace = " \t\r\n\v\f";
  const size_t a = text.find_first_not_of(kSpace), b = text.find_last_not_of(kSpace);
  return a == std::string::npos ? "" : text.substr(a, b - a + 1);
}

std::vector<std::string> from_table(const fs::path& file) {
  const Table table = read_table(file);
  if (table.rows.empty()) return {};
  const auto column = table.column("prompt");
  VGGFLOW_CHECK(column, "[prompts] {}: expected a column 'prompt', got the columns {}",
                file.string(), examples_of(table.columns, ", "));
  std::vector<std::string> prompts;
  for (size_t i = 0; i < table.rows.size(); ++i) {
    prompts.push_back(trim(table.rows[i][*column]));
    VGGFLOW_CHECK(!prompts.back().empty(),
                  "[prompts] {}:{}: the prompt is empty. Fill it in, or take the row out",
                  file.string(), table.lines[i]);
  }
  return prompts;
}

std::vector<std::string> from_text(const fs::path& file) {
  std::istringstream in(read_utf8(file));
  std::vector<std::string> prompts;
  for (std::string line; std::getline(in, line);) {
    if (std::string prompt = trim(line); !prompt.empty()) prompts.push_back(std::move(prompt));
  }
  return prompts;
}

void report_repeated(const std::vector<std::string>& prompts, const fs::path& file) {
  std::map<std::string, size_t> places;
  int64_t repeated = 0;
  std::string example;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const auto [first, fresh] = places.emplace(prompts[i], i);
    if (fresh) continue;
    if (repeated++ == 0)
      example = fmt::format("'{}' is prompt {} and {}", prompts[i], first->second + 1, i + 1);
  }
  if (repeated > 0)
    log_info("{}: {} of {} prompts repeat an earlier one ({})", file.string(), repeated,
             prompts.size(), example);
}

}  // namespace

std::vector<std::string> read_prompts(const fs::path& file) {
  std::vector<std::string> prompts = is_table(file) ? from_table(file) : from_text(file);
  VGGFLOW_CHECK(
      !prompts.empty(),
      "[prompts] {} holds no prompt: expected one per line, or a table with a column 'prompt'",
      file.string());
  report_repeated(prompts, file);
  return prompts;
}

}  // namespace vggflow
