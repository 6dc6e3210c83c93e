#pragma once
// The byte-pair tokenizer of CLIP (Radford et al. 2021), ids bit-equal to transformers 5.23's
// CLIPTokenizer, which knows no ftfy and no BasicTokenizer: NFC, lower case, a split into words,
// then merges over the bytes of each word.

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <unordered_map>
#include <vector>

#include "vggflow/text/added_tokens.h"

namespace vggflow {

class ClipTokenizer {
 public:
  /// Reads vocab.json, merges.txt, tokenizer_config.json and, where it is, special_tokens_map.json
  /// of `folder`.
  explicit ClipTokenizer(const std::filesystem::path& folder);

  /// Ids of begin mark, text and end mark, cut and padded to max_tokens() as diffusers does: a
  /// longer text keeps its first max_tokens() - 2 tokens.
  TokenizedPrompt encode(const std::string& prompt) const;
  /// The same without cut and padding.
  std::vector<int64_t> ids(const std::string& prompt) const;
  /// The text of ids, words separated by single blanks.
  std::string decode(const std::vector<int64_t>& ids) const;

  int64_t max_tokens() const { return max_tokens_; }
  int64_t pad_id() const { return pad_; }
  int64_t size() const { return static_cast<int64_t>(tokens_.size()); }

 private:
  using Id = int64_t;
  struct Merge {
    int64_t rank;
    Id merged;
  };
  void read_vocabulary(const std::filesystem::path& file);
  void read_merges(const std::filesystem::path& file);
  /// Ranked in their order; of a pair that comes twice the later counts.
  void add_merges(const std::vector<std::pair<std::string, std::string>>& pairs);
  Id id_of(const std::string& token, const char* what) const;
  void append_text(std::u32string_view text, std::vector<Id>& out) const;
  void append_word(std::u32string_view word, std::vector<Id>& out) const;
  void merge(std::vector<Id>& symbols) const;
  const Merge* find_merge(Id left, Id right) const;

  std::unordered_map<std::string, Id> id_of_;
  std::vector<std::string> tokens_;
  std::unordered_map<uint64_t, Merge> merges_;  ///< by left << 32 | right
  std::array<Id, 256> byte_{}, last_byte_{};    ///< ids of a byte inside a word and at its end
  TokenSplitter raw_tokens_, normalized_tokens_;
  Id bos_ = 0, eos_ = 0, pad_ = 0;
  int64_t max_tokens_ = 0;
};

/// The words that CLIP's regular expression finds in normalised text.
std::vector<std::u32string_view> clip_words(std::u32string_view text);

}  // namespace vggflow
