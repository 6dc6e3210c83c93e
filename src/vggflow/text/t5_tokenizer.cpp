#include "vggflow/text/t5_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <limits>
#include <optional>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/text/tokenizer_json.h"
#include "vggflow/text/unicode.h"

namespace vggflow {
namespace {

constexpr std::string_view kBlank = "▁";  // U+2581 stands for the blank before a word
constexpr double kUnknownPenalty = 10;    // below the worst score of all pieces

size_t utf8_length(char lead) {
  const auto b = static_cast<uint8_t>(lead);
  return b < 0x80 ? 1 : b < 0xE0 ? 2 : b < 0xF0 ? 3 : 4;
}

SentencePieceModel model_of(const TokenizerJson& json) {
  SentencePieceModel model;
  for (const TokenizerJson::Piece& piece : json.pieces)
    model.pieces.push_back({piece.text, static_cast<float>(piece.score)});
  try {
    model.characters = CharacterMap(json.character_map);
  } catch (const Error& e) {
    fail("[t5_tokenizer] {}: {}", json.file.string(), e.what());
  }
  return model;
}

}  // namespace

T5Tokenizer::T5Tokenizer(const std::filesystem::path& folder) {
  const auto json = tokenizer_json_without(folder, "spiece.model", "Unigram");
  const auto file = json ? json->file : folder / "spiece.model";
  SentencePieceModel model = json ? model_of(*json) : SentencePieceModel::read(file);
  pieces_ = std::move(model.pieces);
  characters_ = std::move(model.characters);
  const std::vector<std::string> expected{"<pad>", "</s>", "<unk>"};
  for (size_t id = 0; id < expected.size(); ++id) {
    VGGFLOW_CHECK(id < pieces_.size() && pieces_[id].text == expected[id],
                  "[t5_tokenizer] expected the piece '{}' at {} of {}, got '{}'", expected[id], id,
                  file.string(), id < pieces_.size() ? pieces_[id].text : "nothing");
  }
  if (json) {  // it has the sentinels among its pieces, or adds them
    for (const AddedToken& token : json->added) {
      if (token.id == size()) pieces_.push_back({unicode::encode(token.content), 0});
    }
  } else {
    for (int64_t i = kSentinels - 1; i >= 0; --i)
      pieces_.push_back({fmt::format("<extra_id_{}>", i), 0});
  }
  build_trie();
  const TokenizerConfig config = read_tokenizer_config(folder, json);
  for (const AddedToken& token : config.added) {
    const std::string content = unicode::encode(token.content);
    VGGFLOW_CHECK(token.id >= 0 && token.id < size() &&
                      pieces_[static_cast<size_t>(token.id)].text == content && !token.normalized,
                  "[t5_tokenizer] expected the special tokens of {} with the ids of {} and not "
                  "normalized, got '{}' as {}",
                  folder.string(), file.filename().string(), content, token.id);
  }
  special_ = TokenSplitter(config.added);
}

void T5Tokenizer::build_trie() {
  piece_at_.push_back(-1);
  float worst = std::numeric_limits<float>::infinity();
  for (size_t id = 0; id < pieces_.size(); ++id) {
    uint32_t node = 0;
    for (const char c : pieces_[id].text) {
      const auto [child, added] =
          children_.try_emplace(uint64_t{node} << 8 | static_cast<uint8_t>(c), piece_at_.size());
      if (added) piece_at_.push_back(-1);
      node = child->second;
    }
    if (node != 0) piece_at_[node] = static_cast<int64_t>(id);
    worst = std::min(worst, pieces_[id].score);
  }
  unknown_score_ = double{worst} - kUnknownPenalty;
}

// NFKC and what sentencepiece adds to it, by the model's table, grapheme by grapheme.
std::string T5Tokenizer::normalize(std::u32string_view text) const {
  constexpr size_t kLookedUpWhole =
      6;  // a grapheme of fewer bytes is looked up at once, a longer one character by character
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const size_t end = unicode::grapheme_end(text, i);
    const std::string grapheme = unicode::encode(text.substr(i, end - i));
    const auto whole = grapheme.size() < kLookedUpWhole ? characters_.find(grapheme) : std::nullopt;
    if (whole) {
      out += *whole;
    } else {
      for (size_t at = 0; at < grapheme.size();) {
        const std::string_view character =
            std::string_view(grapheme).substr(at, utf8_length(grapheme[at]));
        out += characters_.find(character).value_or(character);
        at += character.size();
      }
    }
    i = end;
  }
  return out;
}

std::vector<int64_t> T5Tokenizer::ids(const std::string& prompt) const {
  std::vector<int64_t> out;
  special_.encode(
      unicode::decode(prompt), out,
      [this](std::u32string_view text, std::vector<int64_t>& ids) { append_text(text, ids); });
  out.push_back(kEnd);
  return out;
}

// Words between white space get a blank in front; a blank sign in the text itself begins a word
// too.
void T5Tokenizer::append_text(std::u32string_view text, std::vector<int64_t>& out) const {
  constexpr char32_t kSign = U'▁';
  const std::u32string normalized = unicode::decode(normalize(text));
  std::u32string word;
  const auto flush = [&] {
    if (!word.empty()) append_word(unicode::encode(word), out);
    word.clear();
  };
  bool inside = false;
  for (const char32_t c : normalized) {
    if (unicode::is_space(c)) {
      flush();
      inside = false;
      continue;
    }
    if (c == kSign) {
      flush();
    } else if (!inside) {
      word = kSign;
    }
    word += c;
    inside = true;
  }
  flush();
}

// Viterbi search for the segmentation of highest total score. A character that is no piece of its
// own is unknown; neighbouring unknowns are one token.
void T5Tokenizer::append_word(std::string_view word, std::vector<int64_t>& out) const {
  struct Best {
    double score = 0;
    int64_t begin = -1, piece = -1;
  };
  std::vector<Best> best(word.size() + 1);
  const auto offer = [&](size_t begin, size_t end, double score, int64_t piece) {
    const double total = score + best[begin].score;
    if (best[end].begin < 0 || total > best[end].score)
      best[end] = {total, static_cast<int64_t>(begin), piece};
  };
  for (size_t begin = 0; begin < word.size(); begin += utf8_length(word[begin])) {
    const size_t character = utf8_length(word[begin]);
    bool known = false;
    uint32_t node = 0;
    for (size_t end = begin; end < word.size();) {
      const auto child = children_.find(uint64_t{node} << 8 | static_cast<uint8_t>(word[end++]));
      if (child == children_.end()) break;
      node = child->second;
      const int64_t piece = piece_at_[node];
      if (piece < 0) continue;
      offer(begin, end, double{pieces_[static_cast<size_t>(piece)].score}, piece);
      known = known || end - begin == character;
    }
    if (!known) offer(begin, begin + character, unknown_score_, kUnknown);
  }
  std::vector<int64_t> reversed;
  for (size_t end = word.size(); end > 0; end = static_cast<size_t>(best[end].begin)) {
    const bool again =
        best[end].piece == kUnknown && !reversed.empty() && reversed.back() == kUnknown;
    if (!again) reversed.push_back(best[end].piece);
  }
  out.insert(out.end(), reversed.rbegin(), reversed.rend());
}

TokenizedPrompt T5Tokenizer::encode(const std::string& prompt, int64_t max_tokens) const {
  VGGFLOW_CHECK(max_tokens >= 1, "[t5_tokenizer] expected max_tokens of at least 1, got {}",
                max_tokens);
  TokenizedPrompt out{ids(prompt), ""};
  const auto limit = static_cast<std::ptrdiff_t>(max_tokens);
  if (std::ssize(out.ids) > limit) {
    out.removed = decode({out.ids.begin() + limit - 1, out.ids.end() - 1});
    out.ids[static_cast<size_t>(limit - 1)] = kEnd;
  }
  out.ids.resize(static_cast<size_t>(max_tokens), kPad);
  return out;
}

std::string T5Tokenizer::decode(const std::vector<int64_t>& ids) const {
  std::string text;
  for (const int64_t id : ids) {
    VGGFLOW_CHECK(id >= 0 && id < size(), "[t5_tokenizer] expected ids from 0 to {}, got {}",
                  size() - 1, id);
    text += pieces_[static_cast<size_t>(id)].text;
  }
  for (size_t at = 0; (at = text.find(kBlank, at)) != std::string::npos; ++at)
    text.replace(at, kBlank.size(), 1, ' ');
  return text.starts_with(' ') ? text.substr(1) : text;
}

}  // namespace vggflow
