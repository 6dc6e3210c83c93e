#pragma once
// The safetensors format: an 8-byte little-endian header length, a JSON header, raw tensors. The reader trusts nothing: every
// length is checked against the file before it is used.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace vggflow {

using at::Tensor;
using TensorList = std::vector<std::pair<std::string, Tensor>>;
using Metadata = std::map<std::string, std::string>;

struct TensorEntry {
  at::ScalarType dtype;
  std::vector<int64_t> shape;
  uint64_t begin, end;  ///< bytes after the header
};

/// A file opened by mmap. Throws for whatever does not fit: truncated file, header that is not JSON, unknown dtype, duplicate
/// name, overlapping or missing bytes, sizes that overflow.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& file);
  ~SafetensorsFile();
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  const std::map<std::string, TensorEntry>& tensors() const { return tensors_; }
  const Metadata& metadata() const { return metadata_; }
  bool contains(const std::string& name) const { return tensors_.contains(name); }
  /// A copy of one tensor.
  Tensor load(const std::string& name) const;
  /// One tensor's bytes as they lie in the file, valid as long as this object.
  std::string_view bytes(const std::string& name) const;
  const std::filesystem::path& path() const { return path_; }

 private:
  void parse_header();
  void check_layout() const;
  std::filesystem::path path_;
  const char* bytes_ = nullptr;
  uint64_t size_ = 0, data_begin_ = 0;
  std::map<std::string, TensorEntry> tensors_;
  Metadata metadata_;
};

/// Writes atomically; tensors are made contiguous on the CPU.
void write_safetensors(const std::filesystem::path& file, const TensorList& tensors, const Metadata& metadata = {});

/// Copies the file's tensors into `targets` (name, destination), converting dtypes. Every missing, unexpected and misshaped
/// tensor is listed in one error, and then nothing is changed.
void load_into(const SafetensorsFile& file, const std::vector<std::pair<std::string, Tensor>>& targets);

}  // namespace vggflow
