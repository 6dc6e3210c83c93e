#include "vggflow/io/jsonl.h"

#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/io/files.h"

namespace vggflow {

JsonLines::JsonLines(const std::filesystem::path& file) : path_(file), out_(file, std::ios::app) {
  VGGFLOW_CHECK(out_, "[jsonl] cannot write {}: choose another run folder", file.string());
}

void JsonLines::write(const Json& line) {
  out_ << line.dump(-1, ' ', false, Json::error_handler_t::replace) << '\n' << std::flush;
  VGGFLOW_CHECK(out_, "[jsonl] cannot append to {}: is the disk full?", path_.string());
}

std::vector<Json> read_json_lines(const std::filesystem::path& file) {
  std::ifstream in(file);
  VGGFLOW_CHECK(in, "[jsonl] cannot read {}", file.string());
  std::vector<Json> lines;
  for (std::string line; std::getline(in, line);) {
    Json parsed = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!parsed.is_discarded()) {
      lines.push_back(std::move(parsed));
      continue;
    }
    VGGFLOW_CHECK(in.eof() || in.peek() == EOF, "[jsonl] line {} of {} is damaged",
                  lines.size() + 1, file.string());
  }
  return lines;
}

void truncate_after(const std::filesystem::path& file, int64_t update) {
  if (!std::filesystem::exists(file)) return;
  std::string kept;
  for (const Json& line : read_json_lines(file)) {
    if (line.value("update", int64_t{0}) <= update) kept += line.dump() + "\n";
  }
  write_text(file, kept);
}

}  // namespace vggflow
