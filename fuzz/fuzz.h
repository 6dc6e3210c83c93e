#pragma once
// What the targets share.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include <unistd.h>

/// Whether the last input was accepted; libFuzzer wants 0 for every input, so it gets the answer
/// through this variable. Each target defines it.
extern bool fuzz_accepted;

/// A folder of this process for readers of files, in memory where the system has such a place.
inline const std::filesystem::path& fuzz_folder() {
  namespace fs = std::filesystem;
  struct Folder {
    fs::path path = (fs::exists("/dev/shm") ? fs::path("/dev/shm") : fs::temp_directory_path()) /
                    ("vggflow_fuzz_" + std::to_string(::getpid()));
    Folder() { fs::create_directories(path); }
    ~Folder() { fs::remove_all(path); }
  };
  static const Folder folder;
  return folder.path;
}

/// The bytes as a file `name` there.
inline std::filesystem::path fuzz_file(const std::string& name, std::string_view bytes) {
  const auto file = fuzz_folder() / name;
  std::ofstream(file, std::ios::binary | std::ios::trunc)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  return file;
}

/// Cuts `bytes` at the first zero byte: the part before it, and `bytes` becomes what follows.
inline std::string_view fuzz_part(std::string_view& bytes) {
  const size_t end = std::min(bytes.find('\0'), bytes.size());
  const std::string_view part = bytes.substr(0, end);
  bytes.remove_prefix(std::min(end + 1, bytes.size()));
  return part;
}
