#pragma once
// The tokenizer of T5 v1.1 (Raffel et al. 2020), ids bit-equal to transformers 5.23's T5Tokenizer
// over a spiece.model. That class follows Hugging Face's tokenizers library, not sentencepiece: a
// grapheme of up to five bytes is replaced by the image of its first character, scores add up in
// double, the sentinels <extra_id_0> ... are pieces of score 0, and marks in the text are special.

#include <cstdint>
#include <filesystem>
#include <string>
#include <unordered_map>
#include <vector>

#include "vggflow/text/added_tokens.h"
#include "vggflow/text/sentencepiece_model.h"

namespace vggflow {

class T5Tokenizer {
 public:
  static constexpr int64_t kPad = 0, kEnd = 1, kUnknown = 2, kSentinels = 100;

  /// Reads spiece.model and tokenizer_config.json (the rules of the special tokens) of `folder`.
  explicit T5Tokenizer(const std::filesystem::path& folder);

  /// Ids of text and end mark, cut and padded to max_tokens: a longer text keeps its first
  /// max_tokens - 1 pieces.
  TokenizedPrompt encode(const std::string& prompt, int64_t max_tokens = 256) const;
  /// The same without cut and padding.
  std::vector<int64_t> ids(const std::string& prompt) const;
  std::string decode(const std::vector<int64_t>& ids) const;

  int64_t size() const { return static_cast<int64_t>(pieces_.size()); }

 private:
  void build_trie();
  std::string normalize(std::u32string_view text) const;
  void append_text(std::u32string_view text, std::vector<int64_t>& out) const;
  void append_word(std::string_view word, std::vector<int64_t>& out) const;

  std::vector<SentencePieceModel::Piece> pieces_;
  CharacterMap characters_;
  TokenSplitter special_;
  double unknown_score_ = 0;
  /// Prefix tree of the pieces: (node << 8 | byte) -> node, and the piece that ends at a node or
  /// -1.
  std::unordered_map<uint64_t, uint32_t> children_;
  std::vector<int64_t> piece_at_;
};

}  // namespace vggflow
