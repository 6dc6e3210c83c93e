#pragma once
// The zip container as PyTorch writes it: entries are stored, never compressed, so each is a span
// of the mapped file. Sizes are taken from the central directory and held against the file. Opening
// reads the directory alone; an entry's check sum is held against its bytes when they are asked
// for.

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "vggflow/io/mapped_file.h"

namespace vggflow {

struct ZipEntry {
  uint64_t offset = 0;  ///< of the first byte of the content, in the file
  uint64_t size = 0;
  uint32_t crc32 = 0;  ///< 0: none (torch.serialization.set_crc32_options(False) writes that)
};

/// The entries of a zip file by name. Throws for whatever does not fit: compressed or encrypted
/// entries, spans outside the file or over one another, a name that comes twice, a directory that
/// ends early. zip64 fields are read.
class ZipFile {
 public:
  explicit ZipFile(std::shared_ptr<const MappedFile> bytes);
  const std::map<std::string, ZipEntry>& entries() const { return entries_; }
  /// The bytes of the entry `name`, which must be there; throws where they do not have its check
  /// sum: one pass over them, so ask once.
  std::string_view content(const std::string& name) const;

 private:
  std::shared_ptr<const MappedFile> bytes_;
  std::map<std::string, ZipEntry> entries_;
};

}  // namespace vggflow
