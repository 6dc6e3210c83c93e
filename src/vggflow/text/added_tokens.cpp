#include "vggflow/text/added_tokens.h"

#include <fmt/format.h>

#include <exception>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/core/foreign_file.h"
#include "vggflow/core/json.h"
#include "vggflow/text/unicode.h"

namespace vggflow {
namespace {

using nlohmann::json;

// The token's text: a string, or an object with a "content".
std::string token_text(const json& value) {
  return (value.is_object() ? value.at("content") : value).get<std::string>();
}

void read_named(const json& file, std::map<std::string, std::string>& named) {
  for (const char* key : {"bos_token", "eos_token", "pad_token", "unk_token"}) {
    if (file.contains(key) && !file.at(key).is_null()) named.emplace(key, token_text(file.at(key)));
  }
}

TokenizerConfig parse(const json& config, const json& special) {
  TokenizerConfig out;
  if (config.contains("added_tokens_decoder")) {
    for (const auto& [id, value] : config.at("added_tokens_decoder").items())
      out.added.push_back(read_added_token(std::stoll(id), value));
  }
  read_named(config, out.named);
  read_named(special, out.named);
  // Files of tokenizers without a limit hold 1e30 there.
  const double limit = config.value("model_max_length", 0.0);
  if (limit > 0 && limit < 1e6) out.max_tokens = static_cast<int64_t>(limit);
  return out;
}

}  // namespace

AddedToken read_added_token(int64_t id, const json& value) {
  VGGFLOW_CHECK(!value.value("single_word", false),
                "single_word tokens are not supported, got '{}'", token_text(value));
  return {.id = id,
          .content = unicode::decode(token_text(value)),
          .lstrip = value.value("lstrip", false),
          .rstrip = value.value("rstrip", false),
          .normalized = value.value("normalized", false)};
}

std::string read_tokenizer_file(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  VGGFLOW_CHECK(in,
                "[tokenizer] cannot read {}: the model folder is incomplete, copy the file there",
                file.string());
  std::ostringstream text;
  text << in.rdbuf();
  refuse_foreign(text.view(), fmt::format("[tokenizer] {}", file.string()));
  return text.str();
}

TokenizerConfig TokenizerConfig::read(const std::filesystem::path& folder) {
  const auto file = folder / "tokenizer_config.json", map = folder / "special_tokens_map.json";
  const std::string text = read_tokenizer_file(file),
                    special = std::filesystem::exists(map) ? read_tokenizer_file(map) : "{}";
  try {
    return parse(parse_json<json>(text, file.string()), parse_json<json>(special, map.string()));
  } catch (const std::exception& e) {
    fail("[tokenizer] expected the JSON of a tokenizer in {} and {}, got: {}", file.string(),
         map.filename().string(), e.what());
  }
}

TokenSplitter::TokenSplitter(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  for (const AddedToken& t : tokens_) {
    VGGFLOW_CHECK(
        !t.content.empty(),
        "[tokenizer] expected tokens of at least one character, got an empty one with id {}", t.id);
    if (first_characters_.find(t.content[0]) == std::u32string::npos)
      first_characters_ += t.content[0];
  }
}

const AddedToken* TokenSplitter::longest_at(std::u32string_view text) const {
  if (first_characters_.find(text[0]) == std::u32string::npos) return nullptr;
  const AddedToken* best = nullptr;
  for (const AddedToken& t : tokens_) {
    if (text.starts_with(t.content) && (!best || t.content.size() > best->content.size()))
      best = &t;
  }
  return best;
}

std::vector<TokenSplitter::Part> TokenSplitter::split(std::u32string_view text) const {
  std::vector<Part> parts;
  size_t done = 0;  // everything before is in parts
  // The search goes on right behind a token; white space that it swallowed is never part of another
  // token.
  for (size_t i = 0; i < text.size();) {
    const AddedToken* token = longest_at(text.substr(i));
    if (!token) {
      ++i;
      continue;
    }
    size_t begin = i, end = i + token->content.size();
    i = end;
    while (token->lstrip && begin > done && unicode::is_space(text[begin - 1])) --begin;
    while (token->rstrip && end < text.size() && unicode::is_space(text[end])) ++end;
    if (begin > done) parts.push_back({text.substr(done, begin - done)});
    parts.push_back({text.substr(begin, end - begin), token});
    done = end;
  }
  if (done < text.size()) parts.push_back({text.substr(done)});
  return parts;
}

}  // namespace vggflow
