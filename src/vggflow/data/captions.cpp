#include "vggflow/data/captions.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "vggflow/core/error.h"
#include "vggflow/core/hash.h"

namespace vggflow {
namespace {

constexpr int64_t kMaxTokens =
    12;  // the longest name, of a couple with two skin tones, has 11 words

}  // namespace

std::string subgroup_caption(const std::string& subgroup) {
  std::string words = subgroup;
  std::replace(words.begin(), words.end(), '-', ' ');
  return words;
}

std::string draw_caption(const EmojiItem& item, const CaptionOptions& options,
                         RandomStream& random) {
  const double u = random.uniform();
  const bool bare = random.chance(options.drop_skin_tone);
  if (u < options.empty) return "";
  if (u < options.empty + options.subgroup) return subgroup_caption(item.subgroup);
  return bare ? item.base_name : item.name;
}

Vocabulary build_vocabulary(const EmojiSet& set) {
  std::vector<std::string> captions;
  for (const EmojiItem& item : set.items) captions.push_back(item.name);
  for (const std::string& subgroup : set.subgroups) captions.push_back(subgroup_caption(subgroup));
  return Vocabulary(captions, kMaxTokens);
}

EmojiSampler::EmojiSampler(const EmojiSet& set) : tree_(set.subgroups.size()) {
  std::vector<std::map<std::string, size_t>> names(set.subgroups.size());
  for (size_t i = 0; i < set.items.size(); ++i) {
    const EmojiItem& item = set.items[i];
    const auto g = static_cast<size_t>(item.subgroup_index);
    const auto [at, added] = names[g].try_emplace(item.base_name, tree_[g].size());
    if (added) tree_[g].emplace_back();
    tree_[g][at->second].push_back(static_cast<int64_t>(i));
  }
  for (size_t g = 0; g < tree_.size(); ++g) {
    const auto size = static_cast<double>(tree_[g].size());
    subgroup_weights_.push_back(std::sqrt(size));
    for (const auto& [name, index] : names[g]) {
      PromptList& list = fnv1a(name) % 5 == 0 ? held_out_ : train_;
      list.list.push_back({name, static_cast<int64_t>(g), tree_[g][index].front()});
      list.weights.push_back(1 / std::sqrt(size));
    }
  }
}

int64_t EmojiSampler::draw_item(uint64_t seed, uint64_t update, uint64_t sample) const {
  RandomStream random({seed, Purpose::kData, update, sample});
  const auto& names = tree_[static_cast<size_t>(random.weighted(subgroup_weights_))];
  const auto& variants =
      names[static_cast<size_t>(random.below(static_cast<int64_t>(names.size())))];
  return variants[static_cast<size_t>(random.below(static_cast<int64_t>(variants.size())))];
}

std::vector<Prompt> EmojiSampler::draw_prompts(Split split, uint64_t seed, Purpose purpose,
                                               uint64_t update, uint64_t first,
                                               int64_t count) const {
  return draw_from(split == Split::kTrain ? train_ : held_out_, seed, purpose, update, first,
                   count);
}

std::vector<Prompt> EmojiSampler::draw_all_prompts(uint64_t seed, Purpose purpose, uint64_t update,
                                                   int64_t count) const {
  PromptList all = train_;
  all.list.insert(all.list.end(), held_out_.list.begin(), held_out_.list.end());
  all.weights.insert(all.weights.end(), held_out_.weights.begin(), held_out_.weights.end());
  return draw_from(all, seed, purpose, update, 0, count);
}

std::vector<Prompt> EmojiSampler::draw_from(const PromptList& list, uint64_t seed, Purpose purpose,
                                            uint64_t update, uint64_t first, int64_t count) {
  std::vector<Prompt> out;
  for (int64_t i = 0; i < count; ++i) {
    RandomStream random({seed, purpose, update, first + static_cast<uint64_t>(i)});
    out.push_back(list.list[static_cast<size_t>(random.weighted(list.weights))]);
  }
  return out;
}

Tensor tokenize_all(const Vocabulary& vocabulary, const std::vector<std::string>& captions) {
  Tensor ids =
      at::empty({static_cast<int64_t>(captions.size()), vocabulary.max_tokens()}, at::kLong);
  auto* p = ids.mutable_data_ptr<int64_t>();
  for (const std::string& caption : captions) {
    const auto row = vocabulary.tokenize(caption);
    p = std::copy(row.begin(), row.end(), p);
  }
  return ids;
}

Batch make_batch(const EmojiSet& set, const EmojiSampler& sampler, const Vocabulary& vocabulary,
                 const CaptionOptions& options, uint64_t seed, uint64_t update, uint64_t first,
                 int64_t count) {
  std::vector<int64_t> rows, subgroups;
  Batch batch;
  for (uint64_t s = first; s < first + static_cast<uint64_t>(count); ++s) {
    rows.push_back(sampler.draw_item(seed, update, s));
    const EmojiItem& item = set.items[static_cast<size_t>(rows.back())];
    subgroups.push_back(item.subgroup_index);
    RandomStream random({seed, Purpose::kCaption, update, s});
    batch.captions.push_back(draw_caption(item, options, random));
  }
  batch.images = at::index_select(set.images, 0, at::tensor(rows)).to(at::kFloat) * (2.0 / 255) - 1;
  batch.subgroups = at::tensor(subgroups);
  batch.ids = tokenize_all(vocabulary, batch.captions);
  return batch;
}

const std::vector<std::string>& display_prompts() {
  static const std::vector<std::string> prompts{"grinning face",
                                                "smiling face with sunglasses",
                                                "crying face",
                                                "angry face",
                                                "red heart",
                                                "blue heart",
                                                "ghost",
                                                "robot",
                                                "waving hand",
                                                "thumbs up",
                                                "woman: red hair",
                                                "man: beard",
                                                "old man",
                                                "police officer",
                                                "woman cook",
                                                "astronaut",
                                                "man running",
                                                "woman swimming",
                                                "family: man, woman, boy",
                                                "bust in silhouette",
                                                "dog face",
                                                "cat face",
                                                "tiger face",
                                                "panda",
                                                "frog",
                                                "penguin",
                                                "octopus",
                                                "butterfly",
                                                "cherry blossom",
                                                "sunflower",
                                                "cactus",
                                                "evergreen tree",
                                                "red apple",
                                                "banana",
                                                "watermelon",
                                                "strawberry",
                                                "hamburger",
                                                "pizza",
                                                "doughnut",
                                                "hot beverage",
                                                "house",
                                                "castle",
                                                "mountain",
                                                "police car",
                                                "locomotive",
                                                "airplane",
                                                "rocket",
                                                "sailboat",
                                                "sun",
                                                "crescent moon",
                                                "rainbow",
                                                "fire",
                                                "soccer ball",
                                                "trophy",
                                                "guitar",
                                                "t-shirt",
                                                "mobile phone",
                                                "light bulb",
                                                "key",
                                                "warning",
                                                "check mark button",
                                                "red circle",
                                                "flag: Japan",
                                                "flag: France"};
  return prompts;
}

}  // namespace vggflow
