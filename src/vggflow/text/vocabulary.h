#pragma once
// The nano model's tokenizer: one id a word. Words are what is left of a caption between white
// space after lower-casing ASCII letters and stripping the characters : , . ( ) ! & and curly
// double quotes at both ends; hyphens, apostrophes and accents inside a word stay ("medium-light",
// "o’clock", "côte").

#include <cstdint>
#include <filesystem>
#include <string>
#include <unordered_map>
#include <vector>

namespace vggflow {

/// The words of a caption, in order.
std::vector<std::string> split_words(const std::string& caption);

class Vocabulary {
 public:
  /// Words get the ids 1, 2, ... in sorted order; id 0 is padding.
  Vocabulary(const std::vector<std::string>& captions, int64_t max_tokens);
  /// Reads a file that serialize() made: the first line is "max_tokens N", then one word a line, id
  /// 1 first.
  static Vocabulary load(const std::filesystem::path& file);
  std::string serialize() const;

  /// max_tokens ids, padded with 0. Throws for an unknown word, naming near ones, and for a caption
  /// of too many words.
  std::vector<int64_t> tokenize(const std::string& caption) const;
  int64_t size() const { return static_cast<int64_t>(words_.size()) + 1; }
  int64_t max_tokens() const { return max_tokens_; }
  const std::vector<std::string>& words() const { return words_; }

 private:
  Vocabulary() = default;
  void index();
  std::vector<std::string> words_;
  std::unordered_map<std::string, int64_t> ids_;
  int64_t max_tokens_ = 0;
};

}  // namespace vggflow
