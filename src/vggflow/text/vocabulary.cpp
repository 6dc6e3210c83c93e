#include "vggflow/text/vocabulary.h"

#include <fmt/format.h>

#include <array>
#include <set>
#include <sstream>

#include "vggflow/core/error.h"
#include "vggflow/core/nearest.h"
#include "vggflow/text/added_tokens.h"

namespace vggflow {
namespace {

constexpr std::array<const char*, 9> kStripped{":", ",", ".", "(", ")", "!", "&", "“", "”"};

// Removes one stripped character at the front (or back) of the word; says whether there was one.
bool strip_once(std::string& word, bool front) {
  for (const std::string mark : kStripped) {
    if (word.size() < mark.size()) continue;
    const size_t at = front ? 0 : word.size() - mark.size();
    if (word.compare(at, mark.size(), mark) != 0) continue;
    word.erase(at, mark.size());
    return true;
  }
  return false;
}

}  // namespace

std::vector<std::string> split_words(const std::string& caption) {
  std::istringstream in(caption);
  std::vector<std::string> words;
  for (std::string word; in >> word;) {
    while (strip_once(word, /*front=*/true) || strip_once(word, /*front=*/false)) {
    }
    for (char& c : word) {
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    }
    if (!word.empty()) words.push_back(word);
  }
  return words;
}

Vocabulary::Vocabulary(const std::vector<std::string>& captions, int64_t max_tokens)
    : max_tokens_(max_tokens) {
  std::set<std::string> unique;
  for (const std::string& caption : captions) {
    for (const std::string& word : split_words(caption)) unique.insert(word);
  }
  words_.assign(unique.begin(), unique.end());
  index();
}

void Vocabulary::index() {
  for (size_t i = 0; i < words_.size(); ++i) ids_[words_[i]] = static_cast<int64_t>(i) + 1;
}

Vocabulary Vocabulary::load(const std::filesystem::path& file) {
  std::istringstream in(read_tokenizer_file(file));
  Vocabulary v;
  std::string key;
  in >> key >> v.max_tokens_;
  VGGFLOW_CHECK(in && key == "max_tokens" && v.max_tokens_ > 0 && v.max_tokens_ < 1000,
                "[vocabulary] expected 'max_tokens N' in the first line of {}, got '{}'",
                file.string(), key);
  for (std::string word; in >> word;) v.words_.push_back(word);
  v.index();
  VGGFLOW_CHECK(v.ids_.size() == v.words_.size(), "[vocabulary] {} holds a word twice",
                file.string());
  return v;
}

std::string Vocabulary::serialize() const {
  std::string out = fmt::format("max_tokens {}\n", max_tokens_);
  for (const std::string& word : words_) out += word + "\n";
  return out;
}

std::vector<int64_t> Vocabulary::tokenize(const std::string& caption) const {
  const auto words = split_words(caption);
  VGGFLOW_CHECK(static_cast<int64_t>(words.size()) <= max_tokens_,
                "[vocabulary] expected at most {} words, got {} in '{}'", max_tokens_, words.size(),
                caption);
  std::vector<int64_t> ids(static_cast<size_t>(max_tokens_), 0);
  for (size_t i = 0; i < words.size(); ++i) {
    const auto found = ids_.find(words[i]);
    VGGFLOW_CHECK(found != ids_.end(),
                  "[vocabulary] the model does not know the word '{}' in '{}'; near words: {}",
                  words[i], caption, fmt::join(nearest(words[i], words_), ", "));
    ids[i] = found->second;
  }
  return ids;
}

}  // namespace vggflow
