#pragma once
// BERT's tokenizer (Devlin et al. 2018), ids equal to transformers 5.23's BertTokenizer for uncased
// models: controls are dropped, accents and case are taken off, words end at white space,
// punctuation and Chinese characters, and each is cut greedily into the longest known pieces.

#include <cstdint>
#include <filesystem>
#include <string>
#include <unordered_map>
#include <vector>

#include "vggflow/text/added_tokens.h"

namespace vggflow {

class WordpieceTokenizer {
 public:
  /// A vocab.txt, one token a line, its number the id; `added` tokens follow in this order. [PAD],
  /// [UNK], [CLS], [SEP] and [MASK] must be in it: they and the added ones are found in a prompt's
  /// text, as the library does.
  explicit WordpieceTokenizer(const std::filesystem::path& vocabulary,
                              const std::vector<std::string>& added = {});

  /// [CLS], the text and [SEP].
  std::vector<int64_t> ids(const std::string& prompt) const;
  /// The same of at most `max_tokens` ids: a longer text keeps its first ones.
  std::vector<int64_t> ids(const std::string& prompt, int64_t max_tokens) const;

  int64_t pad_id() const { return pad_; }
  int64_t size() const { return static_cast<int64_t>(id_of_.size()); }

 private:
  int64_t id_of(const std::string& token) const;
  void append_text(std::u32string_view text, std::vector<int64_t>& out) const;
  void append_word(std::u32string_view word, std::vector<int64_t>& out) const;

  std::filesystem::path file_;
  std::unordered_map<std::string, int64_t> id_of_;
  TokenSplitter special_;
  int64_t pad_ = 0, unknown_ = 0, first_ = 0, last_ = 0;
};

/// The words of a text, lower case and without accents.
std::vector<std::u32string> bert_words(std::u32string_view text);

}  // namespace vggflow
