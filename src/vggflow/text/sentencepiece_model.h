#pragma once
// The parts of a sentencepiece model file (a protocol buffer) that T5's tokenizer uses: pieces with
// their scores, and the map that normalises characters. Read by hand: the fields needed are five,
// and the library's own encoder gives other ids than transformers' (see t5_tokenizer.h).

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vggflow {

/// sentencepiece's "precompiled charsmap": a double-array trie (darts-clone) from UTF-8 to its
/// replacement.
class CharacterMap {
 public:
  CharacterMap() = default;
  /// Throws for a map whose lengths do not fit.
  explicit CharacterMap(std::string_view blob);
  /// The replacement of the shortest prefix of `bytes` that has one.
  std::optional<std::string_view> find(std::string_view bytes) const;

 private:
  std::vector<uint32_t> units_;
  std::string replacements_;  ///< each ends with a zero byte
};

struct SentencePieceModel {
  struct Piece {
    std::string text;
    float score = 0;
  };
  std::vector<Piece> pieces;  ///< by id
  CharacterMap characters;
  /// Throws with the file's name for a file that is cut or is no unigram model.
  static SentencePieceModel read(const std::filesystem::path& file);
};

}  // namespace vggflow
