#include "vggflow/text/clip_tokenizer.h"

#include <algorithm>
#include <cstddef>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>
#include <queue>
#include <sstream>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/core/json.h"
#include "vggflow/text/tokenizer_json.h"
#include "vggflow/text/unicode.h"

namespace vggflow {
namespace {

constexpr const char* kEndOfWord = "</w>";

// GPT-2's printable alphabet of bytes: printable Latin-1 stands for itself, the other bytes in
// order for U+0100 and up.
std::array<std::string, 256> byte_alphabet() {
  std::array<std::string, 256> alphabet;
  char32_t next = 0x100;
  for (size_t b = 0; b < 256; ++b) {
    const bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b != 0xAD);
    alphabet[b] = unicode::encode(std::u32string(1, printable ? static_cast<char32_t>(b) : next++));
  }
  return alphabet;
}

// Length of the word that begins here, by the alternatives of the expression in their order, or 0
// at white space:
//   <|startoftext|> | <|endoftext|> | 's | 't | 're | 've | 'm | 'll | 'd | letters+ | number |
//   (neither, nor white space)+
// The first two give more than one word: a second expression (GPT-2's) cuts them after "<|" and
// before "|>".
size_t word_length(std::u32string_view text, bool& marker) {
  marker = text.starts_with(U"<|startoftext|>") || text.starts_with(U"<|endoftext|>");
  if (marker) return text.find(U"|>") + 2;
  for (const std::u32string_view ending : {U"'s", U"'t", U"'re", U"'ve", U"'m", U"'ll", U"'d"}) {
    if (text.starts_with(ending)) return ending.size();
  }
  const auto run = [text](auto belongs) {
    return static_cast<size_t>(std::find_if_not(text.begin(), text.end(), belongs) - text.begin());
  };
  if (const size_t letters = run(unicode::is_letter)) return letters;
  if (unicode::is_number(text[0])) return 1;
  return run([](char32_t c) {
    return !unicode::is_space(c) && !unicode::is_letter(c) && !unicode::is_number(c);
  });
}

std::u32string normalize(std::u32string_view text) { return unicode::lower(unicode::nfc(text)); }

}  // namespace

std::vector<std::u32string_view> clip_words(std::u32string_view text) {
  std::vector<std::u32string_view> words;
  while (!text.empty()) {
    bool marker = false;
    const size_t length = word_length(text, marker);
    if (marker) {
      words.insert(words.end(),
                   {text.substr(0, 2), text.substr(2, length - 4), text.substr(length - 2, 2)});
    } else if (length > 0) {
      words.push_back(text.substr(0, length));
    }
    text.remove_prefix(std::max<size_t>(length, 1));
  }
  return words;
}

ClipTokenizer::ClipTokenizer(const std::filesystem::path& folder) {
  const auto json = tokenizer_json_without(folder, "vocab.json", "BPE");
  if (json) {
    for (const TokenizerJson::Piece& piece : json->pieces) {
      id_of_[piece.text] = size();
      tokens_.push_back(piece.text);
    }
    add_merges(json->merges);
  } else {
    read_vocabulary(folder / "vocab.json");
    read_merges(folder / "merges.txt");
  }
  const auto alphabet = byte_alphabet();
  for (size_t b = 0; b < 256; ++b) {
    byte_[b] = id_of(alphabet[b], "a byte");
    last_byte_[b] = id_of(alphabet[b] + kEndOfWord, "a byte at a word's end");
  }
  const TokenizerConfig config = read_tokenizer_config(folder, json);
  const auto named = [&](const char* key) {
    const auto found = config.named.find(key);
    VGGFLOW_CHECK(
        found != config.named.end(),
        "[clip_tokenizer] expected '{}' in tokenizer_config.json or special_tokens_map.json of {}",
        key, folder.string());
    return id_of(found->second, key);
  };
  bos_ = named("bos_token");
  eos_ = named("eos_token");
  pad_ = named("pad_token");
  max_tokens_ = config.max_tokens;
  VGGFLOW_CHECK(max_tokens_ >= 2,
                "[clip_tokenizer] expected a model_max_length of at least 2 in "
                "tokenizer_config.json of {}, got {}",
                folder.string(), max_tokens_);
  std::vector<AddedToken> raw, normalized;
  for (AddedToken token : config.added) {
    const std::string content = unicode::encode(token.content);
    VGGFLOW_CHECK(
        id_of(content, "an added token") == token.id,
        "[clip_tokenizer] expected '{}' to have the id {} of the vocabulary in {}, got {}", content,
        id_of(content, "an added token"), folder.string(), token.id);
    if (token.normalized) token.content = normalize(token.content);
    (token.normalized ? normalized : raw).push_back(std::move(token));
  }
  raw_tokens_ = TokenSplitter(std::move(raw));
  normalized_tokens_ = TokenSplitter(std::move(normalized));
}

void ClipTokenizer::read_vocabulary(const std::filesystem::path& file) {
  const std::string text = read_tokenizer_file(file);
  try {
    id_of_ =
        parse_json<nlohmann::json>(text, file.string()).get<std::unordered_map<std::string, Id>>();
  } catch (const std::exception& e) {
    fail("[clip_tokenizer] expected an object of tokens and ids in {}, got: {}", file.string(),
         e.what());
  }
  tokens_.resize(id_of_.size());
  std::vector<bool> seen(id_of_.size(), false);
  for (const auto& [token, id] : id_of_) {
    VGGFLOW_CHECK(id >= 0 && id < size() && !seen[static_cast<size_t>(id)],
                  "[clip_tokenizer] expected every id from 0 to {} once in {}, got {} for '{}'",
                  size() - 1, file.string(), id, token);
    seen[static_cast<size_t>(id)] = true;
    tokens_[static_cast<size_t>(id)] = token;
  }
}

void ClipTokenizer::read_merges(const std::filesystem::path& file) {
  std::istringstream in(read_tokenizer_file(file));
  std::vector<std::pair<std::string, std::string>> pairs;
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("#version") || line.empty()) continue;
    const size_t blank = line.find(' ');
    VGGFLOW_CHECK(blank != std::string::npos && line.find(' ', blank + 1) == std::string::npos,
                  "[clip_tokenizer] expected two tokens per line in {}, got '{}'", file.string(),
                  line);
    pairs.emplace_back(line.substr(0, blank), line.substr(blank + 1));
  }
  add_merges(pairs);
}

void ClipTokenizer::add_merges(const std::vector<std::pair<std::string, std::string>>& pairs) {
  int64_t rank = 0;
  for (const auto& [left, right] : pairs) {
    const auto key = static_cast<uint64_t>(id_of(left, "a merge")) << 32 |
                     static_cast<uint64_t>(id_of(right, "a merge"));
    merges_.insert_or_assign(key, Merge{rank++, id_of(left + right, "a merge's result")});
  }
}

ClipTokenizer::Id ClipTokenizer::id_of(const std::string& token, const char* what) const {
  const auto found = id_of_.find(token);
  VGGFLOW_CHECK(found != id_of_.end(),
                "[clip_tokenizer] the vocabulary (vocab.json or tokenizer.json) does not hold '{}' "
                "({}): the files of the folder do not belong together",
                token, what);
  return found->second;
}

std::vector<int64_t> ClipTokenizer::ids(const std::string& prompt) const {
  std::vector<Id> out{bos_};
  const std::u32string text = unicode::decode(prompt);
  for (const auto& part : raw_tokens_.split(text)) {
    if (part.token) {
      out.push_back(part.token->id);
      continue;
    }
    // The library also makes one blank of each run of white space here, which no word can see.
    const std::u32string normalized = normalize(part.text);
    for (const auto& inner : normalized_tokens_.split(normalized)) {
      if (inner.token) {
        out.push_back(inner.token->id);
      } else {
        append_text(inner.text, out);
      }
    }
  }
  out.push_back(eos_);
  return out;
}

void ClipTokenizer::append_text(std::u32string_view text, std::vector<Id>& out) const {
  for (const std::u32string_view word : clip_words(text)) append_word(word, out);
}

void ClipTokenizer::append_word(std::u32string_view word, std::vector<Id>& out) const {
  std::vector<Id> symbols;
  for (const char b : unicode::encode(word)) symbols.push_back(byte_[static_cast<uint8_t>(b)]);
  const std::string bytes = unicode::encode(word.substr(word.size() - 1));
  symbols.back() = last_byte_[static_cast<uint8_t>(bytes.back())];
  merge(symbols);
  out.insert(out.end(), symbols.begin(), symbols.end());
}

const ClipTokenizer::Merge* ClipTokenizer::find_merge(Id left, Id right) const {
  const auto found = merges_.find(static_cast<uint64_t>(left) << 32 | static_cast<uint64_t>(right));
  return found == merges_.end() ? nullptr : &found->second;
}

// Byte-pair encoding: of all neighbours the pair of lowest rank is merged, the leftmost first,
// until none is left. A heap of candidates keeps long words in n log n; a candidate is stale when
// one of its symbols has changed since.
void ClipTokenizer::merge(std::vector<Id>& symbols) const {
  struct Candidate {
    int64_t rank;
    size_t left, right;
    Id left_id, right_id, merged;
    bool operator>(const Candidate& o) const {
      return rank != o.rank ? rank > o.rank : left > o.left;
    }
  };
  constexpr Id kGone = -1;
  const size_t n = symbols.size();
  std::vector<size_t> next(n), before(n);
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> heap;
  const auto consider = [&](size_t left, size_t right) {
    if (const Merge* m = find_merge(symbols[left], symbols[right])) {
      heap.push({m->rank, left, right, symbols[left], symbols[right], m->merged});
    }
  };
  for (size_t i = 0; i < n; ++i) {
    next[i] = i + 1;
    before[i] = i == 0 ? n : i - 1;
    if (i + 1 < n) consider(i, i + 1);
  }
  while (!heap.empty()) {
    const Candidate c = heap.top();
    heap.pop();
    if (symbols[c.left] != c.left_id || next[c.left] != c.right || symbols[c.right] != c.right_id)
      continue;
    symbols[c.left] = c.merged;
    symbols[c.right] = kGone;
    next[c.left] = next[c.right];
    if (next[c.left] < n) {
      before[next[c.left]] = c.left;
      consider(c.left, next[c.left]);
    }
    if (before[c.left] < n) consider(before[c.left], c.left);
  }
  std::erase(symbols, kGone);
}

TokenizedPrompt ClipTokenizer::encode(const std::string& prompt) const {
  TokenizedPrompt out{ids(prompt), ""};
  const auto limit = static_cast<std::ptrdiff_t>(max_tokens_);
  if (std::ssize(out.ids) > limit) {
    out.removed = decode({out.ids.begin() + limit - 1, out.ids.end() - 1});
    out.ids[static_cast<size_t>(limit - 1)] = eos_;
  }
  out.ids.resize(static_cast<size_t>(max_tokens_), pad_);
  return out;
}

std::string ClipTokenizer::decode(const std::vector<int64_t>& ids) const {
  static const std::unordered_map<char32_t, char> bytes = [] {
    std::unordered_map<char32_t, char> map;
    const auto alphabet = byte_alphabet();
    for (size_t b = 0; b < 256; ++b) map[unicode::decode(alphabet[b])[0]] = static_cast<char>(b);
    return map;
  }();
  std::string text;
  for (const Id id : ids) {
    VGGFLOW_CHECK(id >= 0 && id < size(), "[clip_tokenizer] expected ids from 0 to {}, got {}",
                  size() - 1, id);
    std::string token = tokens_[static_cast<size_t>(id)];
    const bool ends_word = token.ends_with(kEndOfWord);
    if (ends_word) token.resize(token.size() - std::string_view(kEndOfWord).size());
    for (const char32_t c : unicode::decode(token)) {
      const auto byte = bytes.find(c);
      text += byte == bytes.end() ? unicode::encode(std::u32string(1, c))
                                  : std::string(1, byte->second);
    }
    if (ends_word) text += ' ';
  }
  if (text.ends_with(' ')) text.pop_back();
  return text;
}

}  // namespace vggflow
