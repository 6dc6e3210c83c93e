#pragma once
// Near words for error messages.

#include <cstdint>
#include <string>
#include <vector>

namespace vggflow {

/// Levenshtein distance in bytes.
int64_t edit_distance(const std::string& a, const std::string& b);

/// Up to `count` candidates with the smallest distance to `word`, nearest first.
std::vector<std::string> nearest(const std::string& word,
                                 const std::vector<std::string>& candidates, size_t count = 3);

}  // namespace vggflow
