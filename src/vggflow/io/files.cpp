#include "vggflow/io/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/random.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "vggflow/core/error.h"

namespace vggflow {
namespace fs = std::filesystem;
namespace {

constexpr const char* kMark = "COMPLETE";

std::string reason() { return std::strerror(errno); }

constexpr std::string_view kTemporary = ".tmp-";

// ".tmp-", digits of any base up to sixteen, "-", and the name that it stands for.
bool is_temporary(const std::string& name) {
  if (!name.starts_with(kTemporary)) return false;
  const size_t end = name.find_first_not_of("0123456789abcdef", kTemporary.size());
  return end > kTemporary.size() && end < name.size() && name[end] == '-';
}

fs::path folder_of(const fs::path& file) {
  return file.has_parent_path() ? file.parent_path() : fs::path(".");
}

// What lies in a folder is on the disk once the folder is. Some file systems (of networks) have no
// such call and say so.
void sync_folder(const fs::path& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  VGGFLOW_CHECK(descriptor >= 0, "[files] cannot open the folder {}: {}", folder.string(),
                reason());
  const bool ok = ::fsync(descriptor) == 0 || errno == EINVAL || errno == ENOTSUP;
  const std::string why = reason();
  ::close(descriptor);
  VGGFLOW_CHECK(ok, "[files] cannot flush the folder {} to the disk: {}", folder.string(), why);
}

// Where `target` is there, it ends under the name `temporary`.
bool exchange(const fs::path& temporary, const fs::path& target) {
  return ::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, target.c_str(), RENAME_EXCHANGE) == 0;
}

void put_in_place(const fs::path& temporary, const fs::path& target) {
  fs::path old;
  if (exchange(temporary, target)) {
    old = temporary;
  } else {
    if (fs::exists(target)) fs::rename(target, old = temporary_beside(target));
    fs::rename(temporary, target);
  }
  sync_folder(folder_of(target));
  std::error_code ignored;
  if (!old.empty()) fs::remove_all(old, ignored);
}

}  // namespace

fs::path temporary_beside(const fs::path& target) {
  uint64_t number = 0;
  VGGFLOW_CHECK(::getrandom(&number, sizeof number, 0) == sizeof number,
                "[files] the system gives no random numbers: {}", reason());
  return target.parent_path() /
         fmt::format("{}{:016x}-{}", kTemporary, number, target.filename().string());
}

void remove_temporaries(const fs::path& folder) {
  std::vector<fs::path> left;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    if (is_temporary(entry.path().filename().string())) left.push_back(entry.path());
  }
  for (const fs::path& path : left) fs::remove_all(path, ignored);
}

AtomicFile::AtomicFile(fs::path target)
    : target_(std::move(target)), temporary_(temporary_beside(target_)) {
  descriptor_ =
      ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
  VGGFLOW_CHECK(descriptor_ >= 0,
                "[files] cannot write {}: {}. Check that its folder exists and is writable",
                target_.string(), reason());
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  std::error_code ignored;
  fs::remove(temporary_, ignored);
}

void AtomicFile::write(const void* data, size_t size) {
  const char* p = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t written = ::write(descriptor_, p, size);
    if (written < 0 && errno == EINTR) continue;
    VGGFLOW_CHECK(written > 0,
                  "[files] cannot write {}: {}. What was there before is unchanged; free some "
                  "space and run again",
                  target_.string(), reason());
    p += written;
    size -= static_cast<size_t>(written);
  }
}

void AtomicFile::commit() {
  const bool ok = ::fsync(descriptor_) == 0 && ::close(std::exchange(descriptor_, -1)) == 0 &&
                  ::rename(temporary_.c_str(), target_.c_str()) == 0;
  if (ok) return sync_folder(folder_of(target_));
  const std::string why = reason();
  std::error_code ignored;
  fs::remove(temporary_, ignored);
  fail("[files] cannot finish {}: {}. What was there before is unchanged", target_.string(), why);
}

void write_text(const fs::path& file, const std::string& text) {
  AtomicFile out(file);
  out.write(text);
  out.commit();
}

std::string read_text(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  VGGFLOW_CHECK(in, "[files] cannot read {}", file.string());
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

void make_writable_folder(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::path> made;
  for (fs::path p = folder; !p.empty() && !fs::exists(p, error); p = p.parent_path())
    made.push_back(p);
  fs::create_directories(folder, error);
  VGGFLOW_CHECK(!error && fs::is_directory(folder),
                "[files] cannot make the folder {}: {}. Choose another place", folder.string(),
                error ? error.message() : "a file of that name is in the way");
  VGGFLOW_CHECK(::access(folder.c_str(), W_OK | X_OK) == 0,
                "[files] the folder {} is not writable: {}. Choose another place", folder.string(),
                reason());
  for (const fs::path& p : made) {
    if (::access(folder_of(p).c_str(), R_OK) == 0) sync_folder(folder_of(p));
  }
}

void write_folder(const fs::path& target, const std::function<void(const fs::path&)>& fill) {
  make_writable_folder(folder_of(target));
  const fs::path temporary = temporary_beside(target);
  std::error_code ignored;
  try {
    fs::create_directory(temporary);
    fill(temporary);
    write_text(temporary / kMark, "");
    put_in_place(temporary, target);
  } catch (const fs::filesystem_error& e) {
    fs::remove_all(temporary, ignored);
    fail("[files] cannot finish the folder {}: {}", target.string(), e.code().message());
  } catch (...) {
    fs::remove_all(temporary, ignored);
    throw;
  }
}

bool is_complete(const fs::path& folder) { return fs::exists(folder / kMark); }

}  // namespace vggflow
