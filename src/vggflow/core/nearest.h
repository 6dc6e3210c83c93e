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

/// The dotted keys that `word` may have meant: up to three that end in it ("lr" for
/// policy_optimizer.lr and value_optimizer.lr), else the one whose whole or last parts are nearest.
/// Empty without keys.
std::vector<std::string> nearest_keys(const std::string& word,
                                      const std::vector<std::string>& keys);

/// "did you mean 'a' or 'b'?"; empty for no words.
std::string did_you_mean(const std::vector<std::string>& words);

}  // namespace vggflow
