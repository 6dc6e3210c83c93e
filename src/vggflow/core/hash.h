#pragma once
// A hash that files and splits may keep: the same numbers on every machine.

#include <cstdint>
#include <string_view>

namespace vggflow {

inline constexpr uint64_t kHashStart = 0xCBF29CE484222325;

/// FNV-1a over `bytes`, continued from `hash`.
constexpr uint64_t fnv1a(std::string_view bytes, uint64_t hash = kHashStart) {
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3;
  return hash;
}

}  // namespace vggflow
