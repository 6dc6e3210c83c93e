#include "vggflow/core/nearest.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <tuple>
#include <utility>

namespace vggflow {
namespace {

// The distance of `word` to the nearest of "a.b.c", "b.c" and "c".
int64_t distance_by_parts(const std::string& word, const std::string& key) {
  int64_t least = edit_distance(word, key);
  for (size_t dot = key.find('.'); dot != std::string::npos; dot = key.find('.', dot + 1))
    least = std::min(least, edit_distance(word, key.substr(dot + 1)));
  return least;
}

}  // namespace

int64_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<int64_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 0; i < a.size(); ++i) {
    int64_t diagonal = row[0];
    row[0] = static_cast<int64_t>(i) + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const int64_t replace = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replace, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

std::vector<std::string> nearest(const std::string& word,
                                 const std::vector<std::string>& candidates, size_t count) {
  std::vector<std::pair<int64_t, std::string>> ranked;
  for (const std::string& c : candidates) ranked.emplace_back(edit_distance(word, c), c);
  const size_t keep = std::min(count, ranked.size());
  std::partial_sort(ranked.begin(), ranked.begin() + static_cast<std::ptrdiff_t>(keep),
                    ranked.end());
  std::vector<std::string> out;
  for (size_t i = 0; i < keep; ++i) out.push_back(ranked[i].second);
  return out;
}

std::vector<std::string> nearest_keys(const std::string& word,
                                      const std::vector<std::string>& keys) {
  constexpr size_t kMost = 3;
  std::vector<std::string> ending;
  for (const std::string& key : keys) {
    if (!word.empty() && key.ends_with("." + word)) ending.push_back(key);
  }
  if (!ending.empty() && ending.size() <= kMost) return ending;
  const auto rank = [&word](const std::string& key) {
    return std::tuple(distance_by_parts(word, key), edit_distance(word, key), key);
  };
  const auto best = std::min_element(
      keys.begin(), keys.end(),
      [&rank](const std::string& a, const std::string& b) { return rank(a) < rank(b); });
  if (best == keys.end()) return {};
  return {*best};
}

std::string did_you_mean(const std::vector<std::string>& words) {
  if (words.empty()) return "";
  return fmt::format("did you mean '{}'?", fmt::join(words, "' or '"));
}

}  // namespace vggflow
