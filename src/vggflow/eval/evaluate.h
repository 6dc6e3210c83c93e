#pragma once
// An evaluation: images of held-out prompts from fixed noise, scored by the reward and by the judge and compared with the base
// model's images.

#include <functional>
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

  template <class V>
  void fields(V& v) {
    v("prompts", prompts, "held-out prompts", range(1, 100000));
    v("images", images, "images a prompt", range(2, 10000));
    v("seed", seed, "seed of prompts and noise", range(0, 1e15));
    v("batch", batch, "images sampled at once", range(1, 100000));
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
  Json to_json() const;
};

/// Holds the prompts, the noise, and the base model's images, made once.
class Evaluator {
 public:
  Evaluator(const EvalOptions& options, const std::vector<Prompt>& prompts, const Reward& reward, const Judge& judge, int64_t size);
  /// Samples the base model: two sets from independent noise. Call before evaluate, with the adapter off.
  Evaluation evaluate_base(const ImageGenerator& base);
  /// Samples from the first set's noise: same noise before and after.
  Evaluation evaluate(const ImageGenerator& model) const;
  const std::vector<Prompt>& prompts() const { return prompts_; }

 private:
  Tensor generate(const ImageGenerator& model, uint64_t set) const;
  struct Scores {
    std::vector<double> reward, judge;  ///< means of each prompt's images
  };
  Evaluation judge_images(const Tensor& pixels, Scores& scores) const;
  Tensor features(const Tensor& pixels) const;
  Estimate prompt_diversity(const Tensor& features) const;

  EvalOptions options_;
  std::vector<Prompt> prompts_;
  std::vector<std::string> captions_;  ///< one an image
  const Reward& reward_;
  const Judge& judge_;
  int64_t size_;
  Tensor base_features_, reference_features_;
  Scores base_scores_;
};

}  // namespace vggflow
