#pragma once
// One JSON object a line: appended at once, so that a crash loses at most the line being written.

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

namespace vggflow {

using Json = nlohmann::ordered_json;

/// Appends lines; numbers that are not finite become null.
class JsonLines {
 public:
  explicit JsonLines(const std::filesystem::path& file);
  ~JsonLines();
  JsonLines(const JsonLines&) = delete;
  JsonLines& operator=(const JsonLines&) = delete;
  void write(const Json& line);
  /// Returns once all lines are on the disk.
  void sync();

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
};

/// All whole lines of a file; a half-written last line is left out.
std::vector<Json> read_json_lines(const std::filesystem::path& file);

/// Rewrites the file without what a resumed run will write again: lines of kind "update" whose
/// "update" is greater than `update`, and all others whose is greater than `evaluation`.
void truncate_after(const std::filesystem::path& file, int64_t update, int64_t evaluation);

}  // namespace vggflow
