#pragma once
// What a configuration field may hold besides its type: a range or a list of choices. Structs with
// a field list include this; whoever parses, prints or saves them includes config.h.

#include <string>
#include <utility>
#include <vector>

namespace vggflow {

/// Numbers in [low, high].
struct Range {
  double low, high;
};
inline Range range(double low, double high) { return {low, high}; }

/// One of these words.
struct Choices {
  std::vector<std::string> words;
};
inline Choices choices(std::vector<std::string> words) { return {std::move(words)}; }

}  // namespace vggflow
