#pragma once
// One JSON object a line: appended and flushed at once, so that a crash loses at most the line
// being written.

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
  void write(const Json& line);

 private:
  std::filesystem::path path_;
  std::ofstream out_;
};

/// All whole lines of a file; a half-written last line is left out.
std::vector<Json> read_json_lines(const std::filesystem::path& file);

/// Rewrites the file without the lines whose "update" is greater than `update`: what a resumed run
/// will write again.
void truncate_after(const std::filesystem::path& file, int64_t update);

}  // namespace vggflow
