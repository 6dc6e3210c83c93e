#include "vggflow/core/listing.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>

namespace vggflow {
namespace {

bool continues(char c) { return (static_cast<unsigned char>(c) >> 6) == 2; }

// The first `most` bytes, fewer where that would cut a character.
std::string head(const std::string& text, size_t most) {
  while (most > 0 && continues(text[most])) --most;
  return text.substr(0, most);
}

// The last `most` bytes, fewer where that would cut a character.
std::string tail(const std::string& text, size_t most) {
  size_t begin = text.size() - most;
  while (begin < text.size() && continues(text[begin])) ++begin;
  return text.substr(begin);
}

}  // namespace

std::string bounded_message(const std::string& message) {
  constexpr size_t kMost = 2000, kTail = 600;
  constexpr const char* kGap = " [...] ";
  if (message.size() <= kMost) return message;
  return head(message, kMost - kTail - std::string(kGap).size()) + kGap + tail(message, kTail);
}

std::string clipped(const std::string& text, size_t most) {
  return text.size() > most ? head(text, most) + "..." : text;
}

std::string count_of(size_t count, const std::string& noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

std::string examples_of(const std::vector<std::string>& items, const char* separator) {
  constexpr size_t kShown = 5, kLongest = 300;
  std::string out;
  for (size_t i = 0; i < std::min(kShown, items.size()); ++i) {
    if (i > 0) out += separator;
    out += clipped(items[i], kLongest);
  }
  if (items.size() > kShown) out += fmt::format("{}and {} more", separator, items.size() - kShown);
  return out;
}

}  // namespace vggflow
