#include "vggflow/io/mapped_file.h"

#include <ATen/ATen.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/core/foreign_file.h"

namespace vggflow {

std::shared_ptr<const MappedFile> MappedFile::open(const std::filesystem::path& file,
                                                   const std::string& reader) {
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  VGGFLOW_CHECK(descriptor >= 0, "[{}] cannot open {}: {}", reader, file.string(),
                std::strerror(errno));
  struct stat info{};
  const bool regular = ::fstat(descriptor, &info) == 0 && S_ISREG(info.st_mode);
  std::shared_ptr<MappedFile> out(new MappedFile);
  out->name_ = file.string();
  out->size_ = regular ? static_cast<uint64_t>(info.st_size) : 0;
  void* map =
      out->size_ > 0 ? ::mmap(nullptr, out->size_, PROT_READ, MAP_PRIVATE, descriptor, 0) : nullptr;
  const std::string reason = std::strerror(errno);
  ::close(descriptor);
  VGGFLOW_CHECK(regular, "[{}] {} is not a file", reader, file.string());
  VGGFLOW_CHECK(map != MAP_FAILED, "[{}] cannot map {}: {}", reader, file.string(), reason);
  out->data_ = static_cast<const char*>(map);
  out->mapped_ = map != nullptr;
  refuse_foreign({out->data_, out->size_}, fmt::format("[{}] {}", reader, file.string()));
  return out;
}

std::shared_ptr<const MappedFile> MappedFile::of_bytes(std::string bytes, std::string name) {
  std::shared_ptr<MappedFile> out(new MappedFile);
  out->name_ = std::move(name);
  out->owned_ = std::move(bytes);
  out->data_ = out->owned_.data();
  out->size_ = out->owned_.size();
  return out;
}

MappedFile::~MappedFile() {
  if (mapped_) ::munmap(const_cast<char*>(data_), size_);
}

bool are_bools(const char* bytes, uint64_t count) {
  return std::all_of(bytes, bytes + count, [](char c) { return c == 0 || c == 1; });
}

at::Tensor view_of(const std::shared_ptr<const MappedFile>& file, uint64_t offset,
                   const std::vector<int64_t>& shape, at::ScalarType dtype) {
  uint64_t bytes = c10::elementSize(dtype);
  for (const int64_t d : shape) bytes *= static_cast<uint64_t>(d);
  const char* begin = file->data() + offset;
  if (bytes > 0 && reinterpret_cast<uintptr_t>(begin) % c10::elementSize(dtype) == 0) {
    return at::from_blob(
        const_cast<char*>(begin), shape, [file](void*) {}, at::TensorOptions().dtype(dtype));
  }
  at::Tensor copy = at::empty(shape, dtype);
  if (bytes > 0) std::memcpy(copy.mutable_data_ptr(), begin, bytes);
  return copy;
}

}  // namespace vggflow
