#include "vggflow/io/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <system_error>
#include <utility>

#include "vggflow/core/error.h"

namespace vggflow {
namespace fs = std::filesystem;
namespace {

constexpr const char* kMark = "COMPLETE";

std::string reason() { return std::strerror(errno); }

fs::path temporary_name(const fs::path& target) {
  return target.parent_path() / fmt::format(".tmp-{}-{}", ::getpid(), target.filename().string());
}

}  // namespace

AtomicFile::AtomicFile(fs::path target)
    : target_(std::move(target)), temporary_(temporary_name(target_)) {
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
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
  if (ok) return;
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
  fs::create_directories(folder, error);
  VGGFLOW_CHECK(!error && fs::is_directory(folder),
                "[files] cannot make the folder {}: {}. Choose another place", folder.string(),
                error ? error.message() : "a file of that name is in the way");
  VGGFLOW_CHECK(::access(folder.c_str(), W_OK | X_OK) == 0,
                "[files] the folder {} is not writable: {}. Choose another place", folder.string(),
                reason());
}

void write_folder(const fs::path& target, const std::function<void(const fs::path&)>& fill) {
  const fs::path temporary = temporary_name(target);
  std::error_code ignored;
  fs::remove_all(temporary, ignored);
  make_writable_folder(temporary);
  try {
    fill(temporary);
    write_text(temporary / kMark, "");
  } catch (...) {
    fs::remove_all(temporary, ignored);
    throw;
  }
  fs::remove_all(target);
  fs::rename(temporary, target);
}

bool is_complete(const fs::path& folder) { return fs::exists(folder / kMark); }

}  // namespace vggflow
