#pragma once
// The bytes of a file, mapped read-only and shared: whoever holds the pointer keeps the mapping, so
// tensors may view the bytes after the reader is gone. A view must not be written to (the pages are
// read-only: the process would end), and a file that somebody shortens while it is mapped ends the
// process too.

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace vggflow {

class MappedFile {
 public:
  /// Maps `file`; `reader` is the name that errors begin with.
  static std::shared_ptr<const MappedFile> open(const std::filesystem::path& file,
                                                const std::string& reader);
  /// The same over bytes in memory, for data that is not a file (fuzzing).
  static std::shared_ptr<const MappedFile> of_bytes(std::string bytes, std::string name);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const char* data() const { return data_; }
  uint64_t size() const { return size_; }
  /// The path, for error messages.
  const std::string& name() const { return name_; }

 private:
  MappedFile() = default;
  std::string name_, owned_;
  const char* data_ = nullptr;
  uint64_t size_ = 0;
  bool mapped_ = false;
};

/// Whether every one of `count` bytes is 0 or 1: what a bool tensor may hold.
bool are_bools(const char* bytes, uint64_t count);

/// A tensor over the bytes at `offset`, without a copy where they are aligned for its dtype and
/// with one where they are not (PyTorch reads elements at aligned addresses only). The tensor holds
/// the mapping. The caller has checked the range.
at::Tensor view_of(const std::shared_ptr<const MappedFile>& file, uint64_t offset,
                   const std::vector<int64_t>& shape, at::ScalarType dtype);

}  // namespace vggflow
