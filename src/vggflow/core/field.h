#pragma once
// What a configuration field may hold besides its type: a range, a list of choices, or the words of
// an enum. Structs with a field list include this; whoever parses, prints or saves them includes
// config.h.

#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
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

/// Words and the values that they stand for, in the order that help shows. A function
/// option_words(E) beside an enum E makes it an option: fields and code hold the enum, YAML, help
/// and saved files the word.
template <class E>
using OptionWords = std::vector<std::pair<std::string, E>>;

template <class E>
concept OptionEnum = std::is_enum_v<E> && requires(E value) { option_words(value); };

/// The word of a value.
template <OptionEnum E>
std::string word_of(E value) {
  std::string found;
  for (const auto& [word, known] : option_words(value)) {
    if (known == value) found = word;
  }
  return found;
}

/// The value of a word; none of one that is not known.
template <OptionEnum E>
std::optional<E> option_of(std::string_view word) {
  for (const auto& [known, value] : option_words(E{})) {
    if (known == word) return value;
  }
  return std::nullopt;
}

}  // namespace vggflow
