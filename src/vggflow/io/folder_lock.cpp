#include "vggflow/io/folder_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
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

// Lines of /proc/locks: "1: FLOCK  ADVISORY  WRITE 4711 08:01:131081 0 EOF". The device may be
// another one than stat names (overlays, subvolumes): then the process that the file names has to
// be the lock's.
bool is_held(const fs::path& folder) {
  struct stat about{};
  const std::string file = (folder / FolderLock::kName).string();
  if (::lstat(file.c_str(), &about) != 0 || !S_ISREG(about.st_mode)) return false;
  std::string number;
  std::getline(std::ifstream(file), number);
  const std::string inode = fmt::format(":{}", about.st_ino),
                    device = fmt::format("{:02x}:{:02x}", major(about.st_dev), minor(about.st_dev));
  std::ifstream locks("/proc/locks");
  for (std::string line; std::getline(locks, line);) {
    std::istringstream words(line);
    std::string place, kind, advisory, access, process, where;
    words >> place >> kind >> advisory >> access >> process >> where;
    if (kind == "FLOCK" && access == "WRITE" && where.ends_with(inode) &&
        (where == device + inode || process == number))
      return true;
  }
  return false;
}

}  // namespace vggflow
