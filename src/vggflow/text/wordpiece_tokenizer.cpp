#include "vggflow/text/wordpiece_tokenizer.h"

#include <iterator>
#include <optional>
#include <sstream>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/text/tokenizer_json.h"
#include "vggflow/text/unicode.h"

namespace vggflow {
namespace {

// White space becomes a blank, and Chinese characters stand between blanks.
std::u32string cleaned(std::u32string_view text) {
  std::u32string out;
  for (const char32_t c : text) {
    if (unicode::is_bert_dropped(c)) continue;
    if (unicode::is_bert_ideograph(c)) {
      out += {U' ', c, U' '};
    } else {
      out += unicode::is_space(c) ? U' ' : c;
    }
  }
  return out;
}

std::u32string normalized(std::u32string_view text) {
  std::u32string parts = unicode::nfd(cleaned(text));
  std::erase_if(parts, unicode::is_bert_accent);
  return unicode::lower(parts);
}

// By id.
std::vector<std::string> read_tokens(const std::filesystem::path& path) {
  std::optional<TokenizerJson> json;
  if (std::filesystem::is_directory(path)) {
    json = tokenizer_json_without(path, "vocab.txt", "WordPiece");
    if (!json) return read_tokens(path / "vocab.txt");
  } else if (path.extension() == ".json") {
    json = TokenizerJson::read(path, "WordPiece");
  }
  std::vector<std::string> tokens;
  if (json) {
    for (const TokenizerJson::Piece& piece : json->pieces) tokens.push_back(piece.text);
    return tokens;
  }
  std::istringstream in(read_tokenizer_file(path));
  for (std::string line; std::getline(in, line);) {
    if (line.ends_with('\r')) line.pop_back();
    tokens.push_back(line);
  }
  return tokens;
}

}  // namespace

std::vector<std::u32string> bert_words(std::u32string_view text) {
  std::vector<std::u32string> words(1);
  for (const char32_t c : normalized(text)) {
    const bool alone = unicode::is_bert_punctuation(c);
    if ((alone || unicode::is_space(c)) && !words.back().empty()) words.emplace_back();
    if (unicode::is_space(c)) continue;
    words.back() += c;
    if (alone) words.emplace_back();
  }
  if (words.back().empty()) words.pop_back();
  return words;
}

WordpieceTokenizer::WordpieceTokenizer(const std::filesystem::path& vocabulary,
                                       const std::vector<std::string>& added)
    : file_(vocabulary) {
  for (const std::string& token : read_tokens(vocabulary)) {
    VGGFLOW_CHECK(id_of_.emplace(token, size()).second,
                  "[wordpiece] expected every token once in {}, got '{}' twice",
                  vocabulary.string(), token);
  }
  for (const std::string& token : added) id_of_.emplace(token, size());
  std::vector<AddedToken> special;
  const auto add_special = [&](const std::string& token) {
    special.push_back({.id = id_of(token), .content = unicode::decode(token)});
  };
  for (const char* token : {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}) add_special(token);
  for (const std::string& token : added) add_special(token);
  special_ = TokenSplitter(std::move(special));
  pad_ = id_of("[PAD]");
  unknown_ = id_of("[UNK]");
  first_ = id_of("[CLS]");
  last_ = id_of("[SEP]");
}

int64_t WordpieceTokenizer::id_of(const std::string& token) const {
  const auto found = id_of_.find(token);
  VGGFLOW_CHECK(
      found != id_of_.end(),
      "[wordpiece] expected '{}' in {}, the vocab.txt of bert-base-uncased or one like it", token,
      file_.string());
  return found->second;
}

std::vector<int64_t> WordpieceTokenizer::ids(const std::string& prompt) const {
  std::vector<int64_t> out{first_};
  special_.encode(
      unicode::decode(prompt), out,
      [this](std::u32string_view text, std::vector<int64_t>& ids) { append_text(text, ids); });
  out.push_back(last_);
  return out;
}

std::vector<int64_t> WordpieceTokenizer::ids(const std::string& prompt, int64_t max_tokens) const {
  VGGFLOW_CHECK(max_tokens >= 2, "[wordpiece] expected room for two tokens at least, got {}",
                max_tokens);
  std::vector<int64_t> all = ids(prompt);
  if (std::ssize(all) > max_tokens) {
    all.resize(static_cast<size_t>(max_tokens));
    all.back() = last_;
  }
  return all;
}

void WordpieceTokenizer::append_text(std::u32string_view text, std::vector<int64_t>& out) const {
  for (const std::u32string& word : bert_words(text)) append_word(word, out);
}

// A word that cannot be cut into known pieces whole, or is longer than a hundred characters, is one
// unknown token.
void WordpieceTokenizer::append_word(std::u32string_view word, std::vector<int64_t>& out) const {
  constexpr size_t kLongest = 100;
  const size_t before = out.size();
  size_t begin = 0;
  while (word.size() <= kLongest && begin < word.size()) {
    size_t end = word.size();
    auto piece = id_of_.end();
    for (; end > begin; --end) {
      piece =
          id_of_.find((begin > 0 ? "##" : "") + unicode::encode(word.substr(begin, end - begin)));
      if (piece != id_of_.end()) break;
    }
    if (end == begin) break;
    out.push_back(piece->second);
    begin = end;
  }
  if (begin == word.size()) return;
  out.resize(before);
  out.push_back(unknown_);
}

}  // namespace vggflow
