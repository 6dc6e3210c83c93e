#pragma once
// A stored zip made byte by byte, as torch.save and `zip -0` write it, with lies where a test of a
// reader wants them.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace vggflow::testing {

template <class T>
std::string raw(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof(T)};
}

struct ZipSpec {
  uint16_t flags = 0, method = 0;
  uint32_t size_lie = 0;   ///< added to the sizes that the directory states
  uint16_t count_lie = 0;  ///< added to the number of entries
  bool overlap = false;    ///< all entries point to the first
};

using ZipEntries = std::vector<std::pair<std::string, std::string>>;

/// The bytes of a zip with these names and contents, without check sums.
inline std::string zip_of(const ZipEntries& entries, const ZipSpec& spec = {}) {
  std::string out, directory;
  for (const auto& [name, content] : entries) {
    const auto offset = spec.overlap ? 0u : static_cast<uint32_t>(out.size());
    const auto size = static_cast<uint32_t>(content.size());
    const std::string common = raw<uint16_t>(20) + raw(spec.flags) + raw(spec.method) +
                               raw<uint32_t>(0) + raw<uint32_t>(0);
    out += raw<uint32_t>(0x04034b50) + common + raw(size) + raw(size) +
           raw(static_cast<uint16_t>(name.size())) + raw<uint16_t>(0) + name + content;
    directory += raw<uint32_t>(0x02014b50) + raw<uint16_t>(20) + common +
                 raw(size + spec.size_lie) + raw(size + spec.size_lie) +
                 raw(static_cast<uint16_t>(name.size())) + raw<uint16_t>(0) + raw<uint16_t>(0) +
                 raw<uint16_t>(0) + raw<uint16_t>(0) + raw<uint32_t>(0) + raw(offset) + name;
  }
  const auto count = static_cast<uint16_t>(entries.size() + spec.count_lie);
  const auto start = static_cast<uint32_t>(out.size());
  out += directory + raw<uint32_t>(0x06054b50) + raw<uint16_t>(0) + raw<uint16_t>(0) + raw(count) +
         raw(count) + raw(static_cast<uint32_t>(directory.size())) + raw(start) + raw<uint16_t>(0);
  return out;
}

}  // namespace vggflow::testing
