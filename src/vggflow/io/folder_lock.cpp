#include "vggflow/io/folder_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "vggflow/core/error.h"

namespace vggflow {
namespace fs = std::filesystem;
namespace {

// The process that holds a lock writes its number into it.
std::string holder_of(int descriptor) {
  char text[32] = {};
  const ssize_t size = ::pread(descriptor, text, sizeof(text) - 1, 0);
  return size > 0 ? fmt::format("process {}", std::string(text, static_cast<size_t>(size)))
                  : "another process";
}

}  // namespace

FolderLock::FolderLock(const fs::path& folder, const char* name)
    : descriptor_(
          ::open((folder / name).c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644)) {
  VGGFLOW_CHECK(descriptor_ >= 0, "[files] cannot write {}: {}", (folder / name).string(),
                std::strerror(errno));
  const bool locked = ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0;
  taken_ = !locked && errno == EWOULDBLOCK;
  if (!locked) return;
  const std::string number = fmt::to_string(::getpid());
  if (::ftruncate(descriptor_, 0) == 0)
    (void)!::pwrite(descriptor_, number.data(), number.size(), 0);
}

FolderLock::FolderLock(const fs::path& folder) : FolderLock(folder, kName) {
  VGGFLOW_CHECK(!taken_,
                "[files] {} is in use by {}: wait for its end, stop it, or choose another folder",
                folder.string(), holder_of(descriptor_));
}

std::unique_ptr<FolderLock> FolderLock::unless_taken(const fs::path& folder, const char* name) {
  std::unique_ptr<FolderLock> lock(new FolderLock(folder, name));
  return lock->taken_ ? nullptr : std::move(lock);
}

FolderLock::~FolderLock() { ::close(descriptor_); }

}  // namespace vggflow
