#pragma once
// Tokens that a tokenizer finds in the text before anything else, "<|endoftext|>" or
// "<extra_id_0>": tokenizer_config.json of a model folder lists them with their rules.

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace vggflow {

struct AddedToken {
  int64_t id = 0;
  std::u32string content;
  bool lstrip = false;      ///< swallows white space before it
  bool rstrip = false;      ///< and after it
  bool normalized = false;  ///< is looked for in the normalised text, in its own normalised form
};

/// What a tokenizer reads from tokenizer_config.json (and special_tokens_map.json, for what the
/// former leaves out).
struct TokenizerConfig {
  std::vector<AddedToken> added;
  std::map<std::string, std::string> named;  ///< "pad_token" -> "<|endoftext|>"
  int64_t max_tokens = 0;                    ///< model_max_length, 0 where the file has none
  /// Throws with the file's name for what is not JSON or not of this form.
  static TokenizerConfig read(const std::filesystem::path& folder);
};

/// A token's rules: {"content": .., "lstrip": .., "rstrip": .., "normalized": ..}.
AddedToken read_added_token(int64_t id, const nlohmann::json& value);

/// Reads a whole file of a tokenizer's folder; a missing one is an error that says so.
std::string read_tokenizer_file(const std::filesystem::path& file);

/// Splits text at the leftmost, and there longest, occurrences of some tokens.
class TokenSplitter {
 public:
  TokenSplitter() = default;
  explicit TokenSplitter(std::vector<AddedToken> tokens);

  struct Part {
    std::u32string_view text;
    const AddedToken* token = nullptr;  ///< the token that this part is, or null for ordinary text
  };
  std::vector<Part> split(std::u32string_view text) const;
  /// Adds the ids of `text`: a token's own, and what `ordinary(text, out)` adds for the text
  /// between them.
  template <class F>
  void encode(std::u32string_view text, std::vector<int64_t>& out, const F& ordinary) const {
    for (const Part& part : split(text)) {
      if (part.token) {
        out.push_back(part.token->id);
      } else {
        ordinary(part.text, out);
      }
    }
  }

 private:
  const AddedToken* longest_at(std::u32string_view text) const;
  std::vector<AddedToken> tokens_;
  std::u32string first_characters_;
};

/// A prompt as a text encoder takes it.
struct TokenizedPrompt {
  std::vector<int64_t> ids;  ///< with end mark, padded, of the asked length
  std::string removed;       ///< the text that did not fit; empty where everything did
};

}  // namespace vggflow
