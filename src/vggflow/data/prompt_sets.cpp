#include "vggflow/data/prompt_sets.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/text/unicode.h"

namespace vggflow {
namespace {

std::vector<std::string> distinct_words(const std::string& normalized) {
  std::istringstream in(normalized);
  std::set<std::string> words;
  for (std::string word; in >> word;) words.insert(word);
  return {words.begin(), words.end()};
}

// Training prompts by word, so that only those that share one are compared.
class WordIndex {
 public:
  explicit WordIndex(const std::vector<std::string>& normalized) {
    for (const std::string& prompt : normalized) {
      const auto words = distinct_words(prompt);
      for (const std::string& word : words) places_[word].push_back(sizes_.size());
      sizes_.push_back(words.size());
    }
  }
  struct Match {
    size_t place = 0;
    double share = 0;
  };
  Match closest(const std::string& normalized) const {
    const auto words = distinct_words(normalized);
    std::unordered_map<size_t, size_t> shared;
    for (const std::string& word : words) {
      if (const auto found = places_.find(word); found != places_.end()) {
        for (const size_t place : found->second) ++shared[place];
      }
    }
    Match best;
    for (const auto& [place, count] : shared) {
      const double share =
          static_cast<double>(count) / static_cast<double>(words.size() + sizes_[place] - count);
      if (share > best.share || (share == best.share && place < best.place)) best = {place, share};
    }
    return best;
  }

 private:
  std::unordered_map<std::string, std::vector<size_t>> places_;
  std::vector<size_t> sizes_;
};

}  // namespace

std::string normalized_prompt(const std::string& prompt) {
  std::u32string out;
  for (const char32_t c : unicode::lower(unicode::nfc(unicode::decode(prompt)))) {
    const bool kept =
        c > 0x7F ? !unicode::is_space(c) : unicode::is_letter(c) || unicode::is_number(c);
    if (kept) {
      out += c;
    } else if (!out.empty() && out.back() != U' ') {
      out += U' ';
    }
  }
  if (!out.empty() && out.back() == U' ') out.pop_back();
  return unicode::encode(out);
}

PromptOverlap prompt_overlap(const std::vector<std::string>& train,
                             const std::vector<std::string>& eval, double near_share) {
  VGGFLOW_CHECK(near_share > 0 && near_share <= 1,
                "[prompt_overlap] expected a share of words in (0, 1], got {}", near_share);
  std::vector<std::string> normalized;
  std::unordered_map<std::string, size_t> by_text, by_normal;
  for (size_t i = 0; i < train.size(); ++i) {
    normalized.push_back(normalized_prompt(train[i]));
    by_text.emplace(train[i], i);
    by_normal.emplace(normalized.back(), i);
  }
  const WordIndex index(normalized);
  PromptOverlap overlap;
  overlap.train = static_cast<int64_t>(train.size());
  overlap.eval = static_cast<int64_t>(eval.size());
  for (const std::string& prompt : eval) {
    const std::string normal = normalized_prompt(prompt);
    if (const auto found = by_text.find(prompt); found != by_text.end()) {
      ++overlap.exact;
      overlap.examples.push_back({prompt, train[found->second], 1});
    } else if (const auto alike = by_normal.find(normal); alike != by_normal.end()) {
      ++overlap.normalized;
      overlap.examples.push_back({prompt, train[alike->second], 1});
    } else if (const auto match = index.closest(normal); match.share >= near_share) {
      ++overlap.near;
      overlap.examples.push_back({prompt, train[match.place], match.share});
    }
  }
  std::stable_sort(overlap.examples.begin(), overlap.examples.end(),
                   [](const auto& a, const auto& b) { return a.shared_words > b.shared_words; });
  if (overlap.examples.size() > 10) overlap.examples.resize(10);
  return overlap;
}

BatchAudit audit_batch(const std::vector<std::string>& prompts,
                       const std::vector<uint64_t>& noise) {
  VGGFLOW_CHECK(prompts.size() == noise.size(),
                "[batch_audit] expected one noise per prompt, got {} prompts and {} noises",
                prompts.size(), noise.size());
  BatchAudit audit;
  std::map<std::pair<std::string, uint64_t>, int64_t> pairs;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const int64_t count = ++pairs[{prompts[i], noise[i]}];
    audit.most_repeats = std::max(audit.most_repeats, count);
    if (count > 1 && count == audit.most_repeats) audit.repeated_prompt = prompts[i];
  }
  audit.samples = static_cast<int64_t>(prompts.size());
  audit.unique_pairs = static_cast<int64_t>(pairs.size());
  audit.unique_prompts =
      static_cast<int64_t>(std::unordered_set<std::string>(prompts.begin(), prompts.end()).size());
  audit.unique_noise =
      static_cast<int64_t>(std::unordered_set<uint64_t>(noise.begin(), noise.end()).size());
  return audit;
}

std::vector<uint64_t> row_hashes(const at::Tensor& rows) {
  const at::Tensor x = rows.detach().cpu().contiguous();
  std::vector<uint64_t> hashes;
  const auto size = x.size(0) == 0 ? size_t{0} : x.nbytes() / static_cast<size_t>(x.size(0));
  for (int64_t i = 0; i < x.size(0); ++i) {
    const auto* bytes =
        static_cast<const uint8_t*>(x.const_data_ptr()) + static_cast<size_t>(i) * size;
    uint64_t hash = 0xCBF29CE484222325;  // FNV-1a
    for (size_t k = 0; k < size; ++k) hash = (hash ^ bytes[k]) * 0x100000001B3;
    hashes.push_back(hash);
  }
  return hashes;
}

}  // namespace vggflow
