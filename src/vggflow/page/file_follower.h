#pragma once
// Lines of a file as they are appended, also by a process that dies, and one that goes on.

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace vggflow {

class FileFollower {
 public:
  /// `last`: of a file that is longer, its last so many bytes are read.
  explicit FileFollower(std::filesystem::path file, uint64_t last = UINT64_MAX);

  struct News {
    bool anew = false;  ///< the file is another one than before, or shorter: the lines before
                        ///< no longer hold
    bool more = false;  ///< there is more to read at once
    std::vector<std::string> lines;
  };
  /// The whole lines since the last call, of at most 4 MiB. A file that is not there, or is no
  /// file (a pipe, a link), has none; lines of more than 1 MiB are left out.
  News read();

 private:
  News append(const std::string& bytes);

  std::filesystem::path path_;
  uint64_t last_, place_ = 0;
  dev_t device_ = 0;
  ino_t inode_ = 0;
  bool skipping_ = false;  ///< within a line that is left out
  std::string rest_;       ///< of a line that is not whole yet
};

/// The bytes of a regular file that is no link; empty where there is none, or more than `most`.
std::string read_plain_file(const std::filesystem::path& file, uint64_t most);

}  // namespace vggflow
