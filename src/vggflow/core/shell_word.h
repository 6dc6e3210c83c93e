#pragma once
// Commands that a person is told to type.

#include <string>
#include <vector>

namespace vggflow {

/// `text` as one word of a shell: as it is where it holds nothing that a shell would read, else in
/// single quotes.
inline std::string shell_word(const std::string& text) {
  constexpr const char* kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./,:@%";
  if (!text.empty() && text.find_first_not_of(kPlain) == std::string::npos) return text;
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'') out += "'\\'";  // the quotes end before the sign, and begin again with it
    out += c;
  }
  out += '\'';
  return out;
}

/// The words of a command.
inline std::string shell_words(const std::vector<std::string>& words) {
  std::string line;
  for (const std::string& word : words) {
    if (!line.empty()) line += ' ';
    line += shell_word(word);
  }
  return line;
}

}  // namespace vggflow
