#pragma once
// An evaluation: images of held-out prompts from fixed noise, scored by the reward and by the judge and compared with the base
// model's images.

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "vggflow/core/field.h"
#include "vggflow/data/captions.h"
#include "vggflow/eval/metrics.h"
#include "vggflow/io/jsonl.h"
#include "vggflow/models/judge.h"
#include "vggflow/rewards/reward.h"

namespace vggflow {

struct EvalOptions {
  int64_t prompts = 20;
  int64_t images = 16;
  int64_t seed = 1000;
  int64_t batch = 64;
  double diversity_floor = 0.8;
  std::vector<std::string> panel{"emoji-clip"};

  template <class V>
  void fields(V& v) {
    v("prompts", prompts, "held-out prompts", range(1, 100000));
    v("images", images, "images a prompt", range(2, 10000));
    v("seed", seed, "seed of prompts and noise", range(0, 1e15));
    v("batch", batch, "images sampled at once", range(1, 100000));
    v("diversity_floor", diversity_floor, "share of the base's diversity below which a model counts as collapsed", range(0, 1));
    v("panel", panel, "rewards that judge besides the judge; those that the run is trained on are left out");
  }
};

/// Generates x_1 (n, 3, S, S) in [-1, 1] for captions from given noise, with whatever model is in force.
using ImageGenerator = std::function<Tensor(const std::vector<std::string>& captions, const Tensor& noise)>;

/// What one model's images are worth.
struct Evaluation {
  Estimate reward, judge_accuracy, judge_score, diversity;  ///< means over prompts; judge_score is the right class's probability
  Estimate reward_change, judge_change;  ///< against the base's first set, paired by prompt: same prompts, same noise
  double reward_sd_within_prompt = 0, saturated = 0;
  double fd = 0, fd_floor = 0;  ///< to the base's second set of images; the floor is the base's first set against it
  Estimate kid, kid_floor;
  struct Opinion {
    Estimate score, change;  ///< mean over prompts; against the base, paired by prompt
  };
  std::map<std::string, Opinion> panel;  ///< held-out rewards by name
  Json to_json() const;
};

/// Rewards that only judge, by name.
using JudgePanel = std::vector<std::pair<std::string, std::shared_ptr<const Reward>>>;

/// The panel of the given names, without those that the reward expression `trained` is made of.
JudgePanel load_panel(const std::vector<std::string>& names, const std::string& trained, const RewardResources& resources);

/// What speaks against a model that has been evaluated, one sentence each with a short name before it; none of a healthy one: the judge's
/// accuracy or a panel's score fell by more than two standard errors (paired by prompt), or diversity is below the floor.
std::vector<std::pair<std::string, std::string>> complaints(const Evaluation& base, const Evaluation& now, double diversity_floor);

/// Holds the prompts, the noise, and the base model's images, made once.
class Evaluator {
 public:
  Evaluator(const EvalOptions& options, const std::vector<Prompt>& prompts, const Reward& reward, const Judge& judge, JudgePanel panel,
            int64_t size);
  /// Samples the base model: two sets from independent noise. Call before evaluate, with the adapter off.
  Evaluation evaluate_base(const ImageGenerator& base);
  /// Samples from the first set's noise: same noise before and after.
  Evaluation evaluate(const ImageGenerator& model) const;
  const std::vector<Prompt>& prompts() const { return prompts_; }

 private:
  Tensor generate(const ImageGenerator& model, uint64_t set) const;
  struct Scores {
    std::vector<double> reward, judge;  ///< means of each prompt's images
    std::map<std::string, std::vector<double>> panel;
  };
  Evaluation judge_images(const Tensor& pixels, Scores& scores) const;
  Tensor features(const Tensor& pixels) const;
  Tensor scores_of(const Reward& reward, const Tensor& pixels) const;
  Estimate prompt_diversity(const Tensor& features) const;

  EvalOptions options_;
  std::vector<Prompt> prompts_;
  std::vector<std::string> captions_;  ///< one an image
  const Reward& reward_;
  const Judge& judge_;
  JudgePanel panel_;
  int64_t size_;
  Tensor base_features_, reference_features_;
  Scores base_scores_;
};

}  // namespace vggflow
