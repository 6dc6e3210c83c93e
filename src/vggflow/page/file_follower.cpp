#include "vggflow/page/file_follower.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace vggflow {
namespace {

constexpr uint64_t kMostAtOnce = 4 << 20;
constexpr size_t kLongestLine = 1 << 20;

// A regular file open for reading; -1 of anything else. A pipe would make the open wait, and a link
// could lead anywhere.
class PlainFile {
 public:
  explicit PlainFile(const std::filesystem::path& file)
      : descriptor_(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)) {
    if (descriptor_ >= 0 && (::fstat(descriptor_, &about) != 0 || !S_ISREG(about.st_mode))) {
      ::close(descriptor_);
      descriptor_ = -1;
    }
  }
  ~PlainFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  PlainFile(const PlainFile&) = delete;
  PlainFile& operator=(const PlainFile&) = delete;

  bool is_open() const { return descriptor_ >= 0; }
  uint64_t size() const { return static_cast<uint64_t>(about.st_size); }
  std::string read(uint64_t from, uint64_t count) const {
    std::string bytes(count, '\0');
    size_t done = 0;
    while (done < count) {
      const ssize_t got =
          ::pread(descriptor_, bytes.data() + done, count - done, static_cast<off_t>(from + done));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) break;
      done += static_cast<size_t>(got);
    }
    bytes.resize(done);
    return bytes;
  }

  struct stat about{};

 private:
  int descriptor_;
};

}  // namespace

FileFollower::FileFollower(std::filesystem::path file, uint64_t last)
    : path_(std::move(file)), last_(last) {}

FileFollower::News FileFollower::read() {
  const PlainFile file(path_);
  if (!file.is_open()) return {};
  const bool same = file.about.st_dev == device_ && file.about.st_ino == inode_;
  const bool anew = inode_ != 0 && (!same || file.size() < place_);
  if (!same || anew) {
    device_ = file.about.st_dev;
    inode_ = file.about.st_ino;
    rest_.clear();
    place_ = file.size() > last_ ? file.size() - last_ : 0;
    skipping_ = place_ > 0;  // the middle of a line
  }
  const std::string bytes = file.read(place_, std::min(kMostAtOnce, file.size() - place_));
  place_ += bytes.size();
  News news = append(bytes);
  news.anew = anew;
  news.more = !bytes.empty() && place_ < file.size();
  return news;
}

FileFollower::News FileFollower::append(const std::string& bytes) {
  News news;
  for (size_t from = 0; from < bytes.size();) {
    const size_t end = bytes.find('\n', from);
    if (!skipping_) rest_.append(bytes, from, std::min(end, bytes.size()) - from);
    if (rest_.size() > kLongestLine) {
      rest_.clear();
      skipping_ = true;
    }
    if (end == std::string::npos) break;
    if (!skipping_) news.lines.push_back(std::move(rest_));
    rest_.clear();
    skipping_ = false;
    from = end + 1;
  }
  return news;
}

std::string read_plain_file(const std::filesystem::path& path, uint64_t most) {
  const PlainFile file(path);
  return file.is_open() && file.size() <= most ? file.read(0, file.size()) : "";
}

}  // namespace vggflow
