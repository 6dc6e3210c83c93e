#pragma once
// The zip container as PyTorch writes it: entries are stored, never compressed, so each is a span of the mapped file. Sizes are
// taken from the central directory and held against the file; check sums are not computed (PyTorch can be told to leave them
// out, and they would cost a pass over gigabytes).

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "vggflow/io/mapped_file.h"

namespace vggflow {

struct ZipEntry {
  uint64_t offset = 0;  ///< of the first byte of the content, in the file
  uint64_t size = 0;
};

/// The entries of a zip file by name. Throws for whatever does not fit: compressed or encrypted entries, spans outside the file
/// or over one another, a name that comes twice, a directory that ends early. zip64 fields are read.
class ZipFile {
 public:
  explicit ZipFile(std::shared_ptr<const MappedFile> bytes);
  const std::map<std::string, ZipEntry>& entries() const { return entries_; }
  std::string_view content(const ZipEntry& entry) const { return {bytes_->data() + entry.offset, entry.size}; }

 private:
  std::shared_ptr<const MappedFile> bytes_;
  std::map<std::string, ZipEntry> entries_;
};

}  // namespace vggflow
