// Field offsets are those of PKWARE's APPNOTE.TXT 6.3.10, whose section numbers the comments give.
#include "vggflow/io/zip.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "vggflow/core/error.h"

namespace vggflow {
namespace {

constexpr uint32_t kLocalHeader = 0x04034b50, kDirectoryHeader = 0x02014b50, kEnd = 0x06054b50,
                   kEnd64 = 0x06064b50, kLocator64 = 0x07064b50;
constexpr uint64_t kEndSize = 22, kLocatorSize = 20, kEnd64Size = 56, kDirectoryHeaderSize = 46,
                   kLocalHeaderSize = 30;

// Little-endian numbers out of the mapped bytes, each read checked against the file's size.
class Bytes {
 public:
  explicit Bytes(const MappedFile& file) : file_(file) {}
  template <class T>
  T number(uint64_t offset) const {
    T value;
    std::memcpy(&value, text(offset, sizeof(T)).data(), sizeof(T));
    return value;
  }
  uint16_t u16(uint64_t offset) const { return number<uint16_t>(offset); }
  uint32_t u32(uint64_t offset) const { return number<uint32_t>(offset); }
  uint64_t u64(uint64_t offset) const { return number<uint64_t>(offset); }
  std::string_view text(uint64_t offset, uint64_t size) const {
    VGGFLOW_CHECK(
        size <= file_.size() && offset <= file_.size() - size,
        "[zip] {}: expected {} bytes at {}, but the file has {}; it is damaged, get it again",
        file_.name(), size, offset, file_.size());
    return {file_.data() + offset, size};
  }

 private:
  const MappedFile& file_;
};

struct Directory {
  uint64_t entries, size, offset;
};

// 4.3.16: the end record lies at most 65535 bytes (its comment) before the end of the file.
uint64_t find_end(const Bytes& in, const MappedFile& file) {
  const uint64_t size = file.size();
  for (uint64_t back = kEndSize; back <= std::min<uint64_t>(size, kEndSize + 0xffff); ++back) {
    if (in.u32(size - back) == kEnd && in.u16(size - back + 20) == back - kEndSize)
      return size - back;
  }
  fail("[zip] {}: no end record found; it is truncated or no zip file", file.name());
}

// 4.3.14 and 4.3.15: where a zip64 locator stands before the end record, its numbers hold.
Directory read_end(const Bytes& in, uint64_t end) {
  if (end >= kLocatorSize && in.u32(end - kLocatorSize) == kLocator64) {
    const uint64_t at = in.u64(end - kLocatorSize + 8);
    in.text(at, kEnd64Size);
    if (in.u32(at) == kEnd64) return {in.u64(at + 32), in.u64(at + 40), in.u64(at + 48)};
  }
  return {in.u16(end + 10), in.u32(end + 12), in.u32(end + 16)};
}

struct DirectoryEntry {
  std::string name;
  uint64_t packed, size, header;  ///< compressed and plain size, offset of the local header
  uint32_t crc32;
};

// 4.5.3: fields that are all ones in the header follow in the zip64 extra field, in this order.
void read_zip64(const Bytes& in, uint64_t at, uint64_t end, DirectoryEntry& entry) {
  while (at + 4 <= end) {
    const uint64_t next = at + 4 + in.u16(at + 2);
    if (in.u16(at) == 0x0001) {
      uint64_t field = at + 4;
      for (uint64_t* value : {&entry.size, &entry.packed, &entry.header}) {
        if (*value != 0xffffffff || field + 8 > std::min(next, end)) continue;
        *value = in.u64(field);
        field += 8;
      }
      return;
    }
    at = next;
  }
}

}  // namespace

ZipFile::ZipFile(std::shared_ptr<const MappedFile> bytes) : bytes_(std::move(bytes)) {
  const Bytes in(*bytes_);
  const std::string& file = bytes_->name();
  const Directory directory = read_end(in, find_end(in, *bytes_));
  in.text(directory.offset, directory.size);
  uint64_t at = directory.offset;
  const uint64_t directory_end = directory.offset + directory.size;
  std::vector<std::pair<uint64_t, uint64_t>> spans;
  for (uint64_t i = 0; i < directory.entries; ++i) {
    VGGFLOW_CHECK(directory_end - at >= kDirectoryHeaderSize && in.u32(at) == kDirectoryHeader,
                  "[zip] {}: the directory claims {} entries, but ends after {}", file,
                  directory.entries, i);
    const uint16_t flags = in.u16(at + 8), method = in.u16(at + 10), name_size = in.u16(at + 28);
    const uint64_t extra = at + kDirectoryHeaderSize + name_size,
                   extra_end = extra + in.u16(at + 30);
    DirectoryEntry e{std::string(in.text(at + kDirectoryHeaderSize, name_size)), in.u32(at + 20),
                     in.u32(at + 24), in.u32(at + 42), in.u32(at + 16)};
    read_zip64(in, extra, extra_end, e);
    at = extra_end + in.u16(at + 32);
    VGGFLOW_CHECK(at <= directory_end,
                  "[zip] {}: the directory claims {} entries, but ends after {}", file,
                  directory.entries, i);
    VGGFLOW_CHECK((flags & 1) == 0, "[zip] {}: the entry '{}' is encrypted", file, e.name);
    VGGFLOW_CHECK(method == 0 && e.packed == e.size,
                  "[zip] {}: the entry '{}' is compressed (method {}, {} of {} bytes); expected "
                  "stored entries, as torch.save writes them",
                  file, e.name, method, e.packed, e.size);
    in.text(e.header, kLocalHeaderSize);
    VGGFLOW_CHECK(in.u32(e.header) == kLocalHeader &&
                      in.text(e.header + kLocalHeaderSize, in.u16(e.header + 26)) == e.name,
                  "[zip] {}: the entry '{}' does not lie where the directory says", file, e.name);
    const uint64_t begin =
        e.header + kLocalHeaderSize + in.u16(e.header + 26) + in.u16(e.header + 28);
    in.text(begin, e.size);
    spans.emplace_back(e.header, begin + e.size);
    VGGFLOW_CHECK(entries_.emplace(e.name, ZipEntry{begin, e.size, e.crc32}).second,
                  "[zip] {}: the entry '{}' comes twice", file, e.name);
  }
  std::sort(spans.begin(), spans.end());
  for (size_t i = 1; i < spans.size(); ++i) {
    VGGFLOW_CHECK(spans[i].first >= spans[i - 1].second, "[zip] {}: two entries overlap at byte {}",
                  file, spans[i].first);
  }
}

std::string_view ZipFile::content(const std::string& name) const {
  const ZipEntry& entry = entries_.at(name);
  const std::string_view bytes(bytes_->data() + entry.offset, entry.size);
  const auto sum = [&] {
    return static_cast<uint32_t>(
        ::crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
  };
  VGGFLOW_CHECK(entry.crc32 == 0 || entry.crc32 == sum(),
                "[zip] {}: the bytes of the entry '{}' do not have its check sum; the file is "
                "damaged, get it again",
                bytes_->name(), name);
  return bytes;
}

}  // namespace vggflow
