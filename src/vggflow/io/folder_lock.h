#pragma once
// One process in a folder at a time.

#include <filesystem>
#include <memory>

namespace vggflow {

/// Holds a folder for one process: others that ask for it are refused. The lock is the system's and
/// dies with its process, however that ends; the file stays. Where the file system has no locks,
/// nothing is held.
class FolderLock {
 public:
  static constexpr const char* kName = ".lock";
  /// Throws where another process holds `folder`, naming it.
  explicit FolderLock(const std::filesystem::path& folder);
  /// The same with another lock of the folder, the file `name`; null where another process has it.
  static std::unique_ptr<FolderLock> unless_taken(const std::filesystem::path& folder,
                                                  const char* name);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

  /// A child that inherits it holds the lock too, until it ends.
  int descriptor() const { return descriptor_; }

 private:
  FolderLock(const std::filesystem::path& folder, const char* name);

  int descriptor_ = -1;
  bool taken_ = false;  ///< by another process
};

/// Whether a process of this machine holds `folder`, as the system's list of locks says; asking
/// takes no lock. False where there is no such list.
bool is_held(const std::filesystem::path& folder);

}  // namespace vggflow
