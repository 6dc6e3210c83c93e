#pragma once
// Captions, balanced batches and prompt lists over the emoji set.

#include <string>
#include <vector>

#include "vggflow/core/field.h"
#include "vggflow/core/random.h"
#include "vggflow/data/emoji.h"
#include "vggflow/text/vocabulary.h"

namespace vggflow {

struct CaptionOptions {
  double empty = 0.1;  ///< for guidance
  double subgroup = 0.12;
  double drop_skin_tone = 0.3;

  template <class V>
  void fields(V& v) {
    v("empty", empty, "fraction of empty captions, for classifier-free guidance", range(0, 1));
    v("subgroup", subgroup, "fraction of captions that name the subgroup only", range(0, 1));
    v("drop_skin_tone", drop_skin_tone,
      "probability of dropping the skin tone from a name that has one", range(0, 1));
  }
};

/// "food-fruit" -> "food fruit".
std::string subgroup_caption(const std::string& subgroup);

/// One caption of the item: empty, its subgroup's, or its name with or without skin tone.
std::string draw_caption(const EmojiItem& item, const CaptionOptions& options,
                         RandomStream& random);

/// The vocabulary of every caption that draw_caption can give.
Vocabulary build_vocabulary(const EmojiSet& set);

struct Prompt {
  std::string caption;
  int64_t subgroup = 0;
  int64_t item = 0;  ///< an item with this base name
};

enum class Split { kTrain, kHeldOut, kAll };
inline OptionWords<Split> option_words(Split) {
  return {{"held_out", Split::kHeldOut}, {"train", Split::kTrain}, {"all", Split::kAll}};
}

/// Draws items so that a subgroup's share is proportional to sqrt(n) of its n base names: first the
/// subgroup, then a base name, then a skin-tone variant. Prompts are base names of weight
/// 1/sqrt(n); one in five (by a hash of the name) is held out.
class EmojiSampler {
 public:
  explicit EmojiSampler(const EmojiSet& set);
  /// Item of one global sample, keyed by (seed, kData, update, sample).
  int64_t draw_item(uint64_t seed, uint64_t update, uint64_t sample) const;
  const std::vector<Prompt>& prompts(Split split) const {
    return split == Split::kTrain ? train_.list : held_out_.list;
  }
  /// `count` prompts of the training or the held-out names for the samples first..first+count-1,
  /// keyed by (seed, purpose, update, sample).
  std::vector<Prompt> draw_prompts(Split split, uint64_t seed, Purpose purpose, uint64_t update,
                                   uint64_t first, int64_t count) const;
  /// The same over training and held-out prompts together.
  std::vector<Prompt> draw_all_prompts(uint64_t seed, Purpose purpose, uint64_t update,
                                       int64_t count) const;

 private:
  struct PromptList {
    std::vector<Prompt> list;
    std::vector<double> weights;
  };
  static std::vector<Prompt> draw_from(const PromptList& list, uint64_t seed, Purpose purpose,
                                       uint64_t update, uint64_t first, int64_t count);
  std::vector<std::vector<std::vector<int64_t>>> tree_;  ///< subgroup -> base name -> items
  std::vector<double> subgroup_weights_;
  PromptList train_, held_out_;
};

struct Batch {
  Tensor images;     ///< (B, 3, S, S) in [-1, 1]
  Tensor ids;        ///< (B, T) int64
  Tensor subgroups;  ///< (B) int64
  std::vector<std::string> captions;
};

/// Samples first..first+count-1 of an update.
Batch make_batch(const EmojiSet& set, const EmojiSampler& sampler, const Vocabulary& vocabulary,
                 const CaptionOptions& options, uint64_t seed, uint64_t update, uint64_t first,
                 int64_t count);

/// ids (B, T) of captions.
Tensor tokenize_all(const Vocabulary& vocabulary, const std::vector<std::string>& captions);

/// 64 fixed captions over all groups, for grids that people look at.
const std::vector<std::string>& display_prompts();

}  // namespace vggflow
