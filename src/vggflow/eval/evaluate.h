#pragma once
// An evaluation: images of prompts, held-out ones as a rule, from fixed noise, scored by the reward
// and by the judge and compared with the base model's images.

#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "vggflow/core/field.h"
#include "vggflow/core/progress.h"
#include "vggflow/data/prompt_source.h"
#include "vggflow/dist/group.h"
#include "vggflow/features/feature_networks.h"
#include "vggflow/io/jsonl.h"
#include "vggflow/io/safetensors.h"
#include "vggflow/metrics/metrics.h"
#include "vggflow/networks/vision/image_judge.h"
#include "vggflow/rewards/reward.h"

namespace vggflow {

struct EvalOptions {
  int64_t prompts = 20;
  int64_t images = 16;
  int64_t seed = 1000;
  int64_t batch = 0;
  double diversity_floor = 0.8;
  std::vector<std::string> panel{"auto"};
  std::string features = "auto";

  template <class V>
  void fields(V& v) {
    v("prompts", prompts, "number of evaluation prompts; the report says whether they are held out",
      range(1, 100000));
    v("images", images, "images per prompt", range(2, 10000));
    v("seed", seed, "seed of prompts and noise", range(0, 1e15));
    v("batch", batch,
      "batch size for sampling; 0: 64, and for latents fewer: as many as have the pixels of 64 "
      "images of 128 x 128",
      range(0, 100000));
    v("diversity_floor", diversity_floor,
      "fraction of the base's diversity below which a model counts as collapsed", range(0, 1));
    v("panel", panel,
      "rewards reported besides the judge; those that the run trains on are left out; [auto]: "
      "emoji-clip for emoji prompts, none for others");
    v("features", features,
      "feature network for diversity and distances: auto (the judge, or pixels-8x8 without one), "
      "judge, emoji-clip, or NAME=PATH (docs/metrics.md)");
  }
};

/// Generates images (n, 3, H, W) in [-1, 1] for captions from given noise, with whatever model is
/// in force.
using ImageGenerator =
    std::function<Tensor(const std::vector<std::string>& captions, const Tensor& noise)>;

/// What one model's images are worth.
struct Evaluation {
  Estimate reward, judge_accuracy, judge_score,
      diversity;  ///< means over prompts; judge_score is the right class's probability
  /// Against the base's first set, paired by prompt: same prompts, same noise; the base's own is 0.
  Estimate reward_change{0, 0.0}, judge_change{0, 0.0}, diversity_change{0, 0.0};
  /// Mean over prompts of log(d / d_base), d a prompt's diversity: each prompt counts alike,
  /// however much its images differ. Prompts on whose images the base gives one and the same
  /// features are left out; ratios count as 1e-3 at least. `right`: the same among the images that
  /// the judge calls right, over prompts with two of them before and now; none: no number.
  Estimate diversity_log{0, 0.0}, diversity_log_right{NAN, std::nullopt};
  /// exp of it: the share of the base's diversity that is kept.
  double diversity_kept() const { return std::exp(diversity_log.mean); }
  /// The prompt with the largest diversity, and its share of the sum over prompts.
  std::string widest_prompt;
  double widest_share = 0;
  bool judged = false;   ///< whether there is a judge: without one its figures are left out
  std::string features;  ///< the network that diversity and distances are taken on
  double reward_sd_within_prompt = 0, saturated = 0;
  int64_t unscored = 0;  ///< images that the reward gave no score (not a number): they are left out
  double fd = 0, fd_floor = 0;  ///< to the base's second set of images; the floor is the base's
                                ///< first set against it
  Estimate kid, kid_floor;
  struct Opinion {
    Estimate score, change{0, 0.0};  ///< mean over prompts; against the base, paired by prompt
    int64_t unscored = 0;  ///< images that it gave no score (not a number): they are left out
  };
  std::map<std::string, Opinion> panel;  ///< held-out rewards by name
  Json to_json() const;
};

/// Rewards that only judge, by name.
using JudgePanel = std::vector<std::pair<std::string, std::shared_ptr<const Reward>>>;

/// The panel of the given names, without those that the reward expression `trained` is made of.
/// `emoji`: whether prompts are the emoji's, for [auto].
JudgePanel load_panel(const std::vector<std::string>& names, bool emoji, const std::string& trained,
                      const RewardResources& resources);

/// The network that options.features names; null where the Evaluator's own choice is meant: auto,
/// and judge where there is one.
std::shared_ptr<const FeatureNetwork> load_evaluation_features(const EvalOptions& options,
                                                               const OwnFeatures& own,
                                                               const ImageJudge* judge);

/// Throws where that many prompts and images per prompt are too few for distances between sets.
void check_set_size(int64_t prompts, int64_t images);

/// Thumbnails (n, 3, h, w) in [0, 1] of prompts that people look at, the i-th from the noise of
/// place i with seed 0, `batch` at once (images_at_once). The processes of `group` draw them
/// between them, and all get them. `bar` counts the images.
Tensor drawn_thumbnails(const ImageGenerator& model, const std::vector<std::string>& prompts,
                        int64_t batch, const std::vector<int64_t>& noise_shape, const Group& group,
                        Progress* bar = nullptr);

/// What speaks against a model that has been evaluated, one sentence each with a short name before
/// it; none of a healthy one: the judge's accuracy or a panel's score fell by more than chance
/// makes of so many prompts (paired; fell_beyond_chance), or diversity is below the floor, and that
/// not by chance (of one prompt, which has no error, the floor alone decides).
std::vector<std::pair<std::string, std::string>> complaints(const Evaluation& base,
                                                            const Evaluation& now,
                                                            double diversity_floor);

/// A sentence where one of eight prompts or more has over 30 % of the base's diversity, so that the
/// mean over prompts is mostly that prompt's; empty of others.
std::string lopsided_diversity(const Evaluation& base);

/// The judge of these prompts: null where they carry no class, and an error where its classes are
/// not theirs.
std::unique_ptr<ImageJudge> judge_of(const PromptSource& prompts, const std::string& folder,
                                     const RewardResources& resources);

/// Holds the prompts, the noise, and the base model's images, made once.
class Evaluator {
 public:
  /// `judge`: names the class of an image, where prompts carry one; null leaves it out. `features`:
  /// for diversity and distances; null takes the judge's, or without one the pixels
  /// (features/pixel_features.h). `noise_shape` (C, H, W) is the model's. The processes of `group`
  /// draw and score the images of a set between them, and all get the figures of one process.
  Evaluator(const EvalOptions& options, const std::vector<Prompt>& prompts, const Reward& reward,
            const ImageJudge* judge, std::shared_ptr<const FeatureNetwork> features,
            JudgePanel panel, std::vector<int64_t> noise_shape, const Group& group = {});
  /// Samples the base model: two sets from independent noise. Call before evaluate, with the
  /// adapter off. `bar` counts the images, here and below.
  Evaluation evaluate_base(const ImageGenerator& base, Progress* bar = nullptr);
  /// What evaluate_base measured, for recall_base of another process: (n) or (n, F) by name.
  TensorMap base_figures() const;
  /// In place of evaluate_base, from the figures that another process measured for the same prompts
  /// and options. The first batch is drawn and scored anew; where anything of it differs by a bit,
  /// or `figures` are not of so many images, the result is none and nothing is changed. For a
  /// single process.
  std::optional<Evaluation> recall_base(TensorMap figures, const ImageGenerator& base,
                                        Progress* bar = nullptr);
  /// Samples from the first set's noise: same noise before and after.
  Evaluation evaluate(const ImageGenerator& model, Progress* bar = nullptr) const;
  /// Images of a set: evaluate draws one, evaluate_base two.
  int64_t set_size() const { return static_cast<int64_t>(captions_.size()); }
  const std::vector<Prompt>& prompts() const { return prompts_; }

 private:
  struct Scores {
    std::vector<double> reward, judge, diversity;  ///< of each prompt's images
    std::vector<double> right_diversity;           ///< of those that the judge calls right; or NaN
    std::map<std::string, std::vector<double>> panel;
  };
  /// What is kept of a set of images: the images themselves are not, they would not fit in memory
  /// at 1024 pixels.
  struct Measured {
    Tensor reward, features, right, confidence;  ///< (n), (n, F), and the judge's (n)
    std::map<std::string, Tensor> panel;
    Tensor saturated;  ///< by part of the set, its share of the set's
    TensorMap by_name() const;
    static Measured of(const TensorMap& by_name);
  };
  Measured measure_part(const ImageGenerator& model, uint64_t set, bool scores, int64_t start,
                        int64_t length) const;
  Measured measure(const ImageGenerator& model, uint64_t set, bool scores, Progress* bar) const;
  Evaluation summarize(const Measured& m, Scores& scores) const;
  /// `chosen` (n): of these images alone; NaN of a prompt with fewer than two.
  std::vector<double> prompt_diversity(const Tensor& features, const Tensor& chosen = {}) const;

  EvalOptions options_;
  std::vector<Prompt> prompts_;
  std::vector<std::string> captions_;  ///< one per image
  std::vector<int64_t> classes_;       ///< one per image
  const Reward& reward_;
  const ImageJudge* judge_;
  std::shared_ptr<const FeatureNetwork> features_;
  JudgePanel panel_;
  std::vector<int64_t> noise_shape_;
  Group group_;
  Measured base_;              ///< of the base's first set
  Tensor reference_features_;  ///< of its second one
  Scores base_scores_;
};

}  // namespace vggflow
