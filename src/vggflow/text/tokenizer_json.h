#pragma once
// tokenizer.json, the one file in which Hugging Face's tokenizers library keeps a whole tokenizer,
// and the only one that transformers 5 writes. It is read for what the three tokenizers here need;
// a file that asks for steps which they do not do is refused.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "vggflow/text/added_tokens.h"

namespace vggflow {

struct TokenizerJson {
  struct Piece {
    std::string text;
    double score = 0;  ///< of Unigram models
  };
  std::filesystem::path file;
  std::vector<Piece> pieces;                                ///< by id
  std::vector<std::pair<std::string, std::string>> merges;  ///< of BPE models, by rank
  std::string character_map;  ///< of a Precompiled normaliser, decoded; empty where there is none
  std::vector<AddedToken> added;

  /// Throws with the file's name for what is no tokenizer of `model` ("BPE", "Unigram",
  /// "WordPiece") as CLIP, T5 and BERT (uncased) have them.
  static TokenizerJson read(const std::filesystem::path& file, const std::string& model);
};

/// The configuration of `folder`, whose added tokens are those of `json` where it lists none, as
/// transformers 5 writes it.
TokenizerConfig read_tokenizer_config(const std::filesystem::path& folder,
                                      const std::optional<TokenizerJson>& json);

/// The tokenizer.json of `folder` where `older`, the file that came before it, is not there; none
/// where it is. An error names both where neither is.
std::optional<TokenizerJson> tokenizer_json_without(const std::filesystem::path& folder,
                                                    const std::string& older,
                                                    const std::string& model);

}  // namespace vggflow
