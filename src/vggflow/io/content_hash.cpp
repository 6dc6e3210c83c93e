#include "vggflow/io/content_hash.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstring>

namespace vggflow {
namespace {

// FNV's low bits see only low bits, so the high half is folded in after each word.
void mix(uint64_t& hash, uint64_t word) {
  hash = (hash ^ word) * 0x100000001B3;
  hash ^= hash >> 32;
}

void mix_bytes(uint64_t& hash, const void* data, size_t size) {
  const auto* bytes = static_cast<const char*>(data);
  uint64_t word = 0;
  for (; size >= sizeof word; bytes += sizeof word, size -= sizeof word) {
    std::memcpy(&word, bytes, sizeof word);
    mix(hash, word);
  }
  word = 0;
  std::memcpy(&word, bytes, size);
  mix(hash, word);
}

}  // namespace

std::string content_hash(const TensorMap& tensors) {
  uint64_t hash = 0xCBF29CE484222325;
  for (const auto& [name, tensor] : tensors) {
    const auto head = fmt::format("{} {} {}\n", name, c10::toString(tensor.scalar_type()),
                                  fmt::join(tensor.sizes(), " "));
    mix_bytes(hash, head.data(), head.size());
    const Tensor plain = tensor.cpu().contiguous();
    mix_bytes(hash, plain.const_data_ptr(), plain.nbytes());
  }
  return fmt::format("{:016x}", hash);
}

std::string bytes_hash(std::string_view bytes) {
  uint64_t hash = 0xCBF29CE484222325;
  mix(hash, bytes.size());
  mix_bytes(hash, bytes.data(), bytes.size());
  return fmt::format("{:016x}", hash);
}

}  // namespace vggflow
