#pragma once
// One process in a folder at a time.

#include <filesystem>

namespace vggflow {

/// Holds a folder for one process: others that ask for it are refused. The lock is the system's and
/// dies with its process, however that ends; the file stays. Where the file system has no locks,
/// nothing is held.
class FolderLock {
 public:
  static constexpr const char* kName = ".lock";
  /// Throws where another process holds `folder`, naming it.
  explicit FolderLock(const std::filesystem::path& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int descriptor_ = -1;
};

/// Whether a process of this machine holds `folder`, as the system's list of locks says; asking
/// takes no lock. False where there is no such list.
bool is_held(const std::filesystem::path& folder);

}  // namespace vggflow
