#pragma once
// The safetensors format: an 8-byte little-endian header length, a JSON header, raw tensors. The
// reader trusts nothing: every length is checked against the file before it is used.
// fuzz/safetensors_fuzz.cpp throws random bytes at it.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "vggflow/io/mapped_file.h"

namespace vggflow {

using at::Tensor;
using TensorList = std::vector<std::pair<std::string, Tensor>>;
using TensorMap = std::map<std::string, Tensor>;
using Metadata = std::map<std::string, std::string>;

struct TensorEntry {
  at::ScalarType dtype;
  std::vector<int64_t> shape;
  uint64_t begin, end;  ///< bytes after the header
};

/// A file opened by mmap. Throws for whatever does not fit: truncated file, header that is not JSON
/// (in UTF-8, padded with nothing but spaces), unknown dtype, duplicate name, overlapping or
/// missing bytes, sizes that overflow.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& file);
  explicit SafetensorsFile(std::shared_ptr<const MappedFile> bytes);

  const std::map<std::string, TensorEntry>& tensors() const { return tensors_; }
  const Metadata& metadata() const { return metadata_; }
  bool contains(const std::string& name) const { return tensors_.contains(name); }
  /// A copy of one tensor.
  Tensor load(const std::string& name) const;
  /// One tensor over the mapped bytes; it may outlive this object and must not be written to. The
  /// format aligns the first tensor to 8 bytes at best and the others not at all, so a tensor whose
  /// dtype does not fit its address is copied, and code that wants more than the dtype's own
  /// alignment (64 bytes for vector loads) has to copy as well.
  Tensor view(const std::string& name) const;
  /// view() of all tensors.
  TensorMap views() const;
  /// One tensor's bytes as they lie in the file, valid as long as this object.
  std::string_view bytes(const std::string& name) const;
  const std::filesystem::path& path() const { return path_; }

 private:
  void parse_header();
  void check_layout() const;
  const TensorEntry& entry(const std::string& name) const;
  std::shared_ptr<const MappedFile> bytes_;
  std::filesystem::path path_;
  uint64_t data_begin_ = 0;
  std::map<std::string, TensorEntry> tensors_;
  Metadata metadata_;
};

/// A tensor that is made when its turn to be written comes, so that a file may be larger than
/// memory.
struct LazyTensor {
  std::string name;
  at::ScalarType dtype;
  std::vector<int64_t> shape;
  std::function<Tensor()> make;  ///< of that dtype and shape
};

/// Writes atomically, one tensor after the other.
void write_safetensors(const std::filesystem::path& file, const std::vector<LazyTensor>& tensors,
                       const Metadata& metadata = {});
/// The same of tensors that are there; they are made contiguous on the CPU.
void write_safetensors(const std::filesystem::path& file, const TensorList& tensors,
                       const Metadata& metadata = {});

/// Throws where `tensors` are not those of `targets` (name, a tensor of the expected shape): every
/// missing, unexpected and misshaped one is listed in one error; `origin` names them.
void expect_fit(const TensorMap& tensors, const std::string& origin, const TensorList& targets);

/// Copies `tensors` into `targets` (name, destination), converting dtypes. What does not fit is an
/// error of expect_fit, and then nothing is changed.
void load_into(const TensorMap& tensors, const std::string& origin, const TensorList& targets);
/// The same from a file.
void load_into(const SafetensorsFile& file, const TensorList& targets);

}  // namespace vggflow
