#include "vggflow/io/jsonl.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>

#include "vggflow/core/descriptors.h"
#include "vggflow/core/error.h"
#include "vggflow/core/json.h"
#include "vggflow/io/files.h"

namespace vggflow {

JsonLines::JsonLines(const std::filesystem::path& file) : path_(file) {
  descriptor_ = open_to_append(file);
  VGGFLOW_CHECK(descriptor_ >= 0, "[jsonl] cannot write {}: {}. Choose another run folder",
                file.string(), std::strerror(errno));
}

JsonLines::~JsonLines() { ::close(descriptor_); }

void JsonLines::write(const Json& line) {
  const std::string text = json_text(line) + "\n";
  for (size_t done = 0; done < text.size();) {
    const ssize_t written = ::write(descriptor_, text.data() + done, text.size() - done);
    if (written < 0 && errno == EINTR) continue;
    VGGFLOW_CHECK(written > 0, "[jsonl] cannot append to {}: {}. Free some space and run again",
                  path_.string(), std::strerror(errno));
    done += static_cast<size_t>(written);
  }
}

void JsonLines::sync() {
  VGGFLOW_CHECK(::fsync(descriptor_) == 0, "[jsonl] cannot flush {} to the disk: {}",
                path_.string(), std::strerror(errno));
}

std::vector<Json> read_json_lines(const std::filesystem::path& file) {
  std::ifstream in(file);
  VGGFLOW_CHECK(in, "[jsonl] cannot read {}", file.string());
  std::vector<Json> lines;
  for (std::string line; std::getline(in, line);) {
    Json parsed = try_parse_json(line);
    if (!parsed.is_discarded()) {
      lines.push_back(std::move(parsed));
      continue;
    }
    VGGFLOW_CHECK(in.eof() || in.peek() == EOF, "[jsonl] line {} of {} is damaged",
                  lines.size() + 1, file.string());
  }
  return lines;
}

void truncate_after(const std::filesystem::path& file, int64_t update, int64_t evaluation) {
  if (!std::filesystem::exists(file)) return;
  std::string kept;
  for (const Json& line : read_json_lines(file)) {
    const int64_t last = line.value("kind", "") == "update" ? update : evaluation;
    if (line.value("update", int64_t{0}) <= last) kept += json_text(line) + "\n";
  }
  write_text(file, kept);
}

}  // namespace vggflow
