#pragma once
// Comparison of two sets of images: what each is worth by prompt (rewards, diversity), and how far
// apart they are as a whole (Frechet distance, KID, CMMD, precision and recall), with the distance
// between two sets of the base beside it.

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "vggflow/core/field.h"
#include "vggflow/dist/group.h"
#include "vggflow/features/feature_network.h"
#include "vggflow/io/jsonl.h"
#include "vggflow/metrics/image_sets.h"
#include "vggflow/metrics/metrics.h"
#include "vggflow/rewards/reward.h"

namespace vggflow {

using FeatureNetworks = std::vector<std::shared_ptr<const FeatureNetwork>>;
using RewardPanel = std::vector<std::pair<std::string, std::shared_ptr<const Reward>>>;

struct SetMetricOptions {
  int64_t images_per_prompt = 0;
  bool per_prompt_fd = false;
  int64_t neighbours = 3;
  int64_t kid_subsets = 100;
  int64_t kid_size = 1000;
  int64_t bootstrap = 2000;
  int64_t jackknife = 20;
  int64_t seed = 0;
  int64_t batch = 32;

  template <class V>
  void fields(V& v) {
    v("images_per_prompt", images_per_prompt,
      "number of images per prompt to use, from the first; 0: all", range(0, 1e6));
    v("per_prompt_fd", per_prompt_fd,
      "also compute the paper's distance: per-prompt FD to the base's images, averaged over "
      "prompts");
    v("neighbours", neighbours, "k of precision and recall", range(1, 1000));
    v("kid_subsets", kid_subsets, "number of random KID subsets", range(1, 1e6));
    v("kid_size", kid_size, "maximum images per KID subset; at most half a set", range(2, 1e6));
    v("bootstrap", bootstrap, "bootstrap resamples of prompts for the confidence intervals",
      range(10, 1e7));
    v("jackknife", jackknife,
      "jackknife groups of prompts (or of images, without prompts) for the standard errors of set "
      "distances; 0: no errors",
      range(0, 1e6));
    v("seed", seed, "random seed of subsets and bootstrap", range(0, 1e15));
    v("batch", batch, "batch size", range(1, 1e5));
  }
};

/// What the networks and rewards say of a set's images. Row i belongs to image i.
struct MeasuredSet {
  std::string name;
  GroupedImages grouped;
  std::vector<Tensor> features;  ///< one (N, F) a network
  std::vector<std::pair<std::string, Tensor>>
      scores;            ///< one (N) a reward, by name; NaN where it gave none
  double saturated = 0;  ///< share of pixel values at the ends of the range
  int64_t left_out = 0, without_prompt = 0,
          identical = 0;            ///< identical: images that repeat another of the same prompt
  std::vector<std::string> unread;  ///< files that are images of a kind that is not read
  int64_t size() const;
  /// Rewards that gave some images no score, with their number: those images are left out of its
  /// means.
  std::vector<std::pair<std::string, int64_t>> unscored() const;
};
/// The processes of `group` read and measure the images between them (for_batches), and all get the
/// figures of one process.
MeasuredSet measure(const ImageSet& set, const FeatureNetworks& networks, const RewardPanel& panel,
                    int64_t batch, const Group& group = {});

/// A mean over prompts; over images where there is no prompt and no subfolder to tell them apart.
struct PromptMean {
  int64_t n = 0;  ///< prompts, or images
  Estimate estimate;
  std::optional<Interval> interval;  ///< bootstrap over them, 95 %; none of one, and none of a
                                     ///< statistic of all images such as diversity
};

/// A quantity that every prompt has a value of.
struct PromptMeasure {
  std::string name, network;  ///< "diversity" of "judge"; a reward has no network
  PromptMean a;
  /// b; a - b over the prompts that both have, paired. Over images it is the difference of
  /// independent means, n the images of both sets.
  std::optional<PromptMean> b, change;
  std::vector<std::pair<std::string, double>> values_a, values_b;  ///< by group
};

/// What published figures of this measure are multiples of ours: 2 of diversity on CLIP, which the
/// reference code of Adjoint Matching, whom the paper follows, divides by n (n - 1) and not by 2 n
/// (n - 1) as on DreamSim; 1 of all others.
double published_factor(const PromptMeasure& measure);

/// A distance between the sets as a whole.
struct SetMeasure {
  std::string name, network;
  double value = 0;
  std::optional<double> se;  ///< jackknife over prompts (over images without any); none with one
                             ///< prompt, and of sets that have no prompt in common
  /// The same between two sets of the base: the given third set, or halves of b. With halves
  /// `matched` is the distance of half of a to half of b: of the floor's size, so that these two
  /// may be compared.
  std::optional<double> floor, matched;
};

struct SetComparison {
  MeasuredSet a;
  std::optional<MeasuredSet> b, base;  ///< base: a second set of the base's images
  FeatureNetworks networks;
  SetMetricOptions options;
  std::vector<PromptMeasure> by_prompt;
  std::vector<SetMeasure> as_a_whole;
  bool over_images = false;  ///< whether means are over images: there is no prompt and no subfolder
  /// Prompts (or subfolders) that a has in common with b, and base with b; none where there is no
  /// such set, or none has prompts.
  std::optional<int64_t> shared = {}, base_shared = {};
  std::vector<std::string> warnings =
      {};  ///< what a reader of the figures must know, a sentence each
  /// "prompts" or "images", "prompt" or "image" of one.
  const char* unit(int64_t n) const {
    return over_images ? (n == 1 ? "image" : "images") : n == 1 ? "prompt" : "prompts";
  }
  Json to_json() const;
};

/// Compares a with the base's images b, or describes a alone; `base` is another set of the base's
/// images, from other noise, for the floor.
SetComparison compare_sets(MeasuredSet a, std::optional<MeasuredSet> b,
                           std::optional<MeasuredSet> base, const FeatureNetworks& networks,
                           const SetMetricOptions& options);

}  // namespace vggflow
