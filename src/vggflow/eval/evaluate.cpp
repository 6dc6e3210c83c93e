#include "vggflow/eval/evaluate.h"

#include <torch/csrc/autograd/grad_mode.h>

#include "vggflow/core/error.h"
#include "vggflow/ops/random_tensor.h"

namespace vggflow {
namespace {

Json json_of(const Estimate& e) { return {{"mean", e.mean}, {"se", e.se}}; }

std::vector<double> group_means(const Tensor& values, int64_t size) {
  const Tensor m = values.to(at::kDouble).view({-1, size}).mean(1).contiguous();
  return {m.const_data_ptr<double>(), m.const_data_ptr<double>() + m.numel()};
}

Estimate paired_change(std::vector<double> now, const std::vector<double>& before) {
  for (size_t i = 0; i < now.size(); ++i) now[i] -= before[i];
  return estimate(now);
}

// Applies f to chunks of rows and joins the results.
Tensor in_chunks(int64_t rows, int64_t chunk, const std::function<Tensor(int64_t start, int64_t length)>& f) {
  std::vector<Tensor> parts;
  for (int64_t start = 0; start < rows; start += chunk) parts.push_back(f(start, std::min(chunk, rows - start)));
  return at::cat(parts);
}

}  // namespace

Json Evaluation::to_json() const {
  return {{"reward", json_of(reward)},
          {"reward_change", json_of(reward_change)},
          {"judge_change", json_of(judge_change)},
          {"reward_sd_within_prompt", reward_sd_within_prompt},
          {"judge_accuracy", json_of(judge_accuracy)},
          {"judge_score", json_of(judge_score)},
          {"diversity", json_of(diversity)},
          {"fd", fd},
          {"fd_floor", fd_floor},
          {"kid", kid.mean},
          {"kid_se", kid.se},
          {"kid_floor", kid_floor.mean},
          {"saturated", saturated}};
}

Evaluator::Evaluator(const EvalOptions& options, const std::vector<Prompt>& prompts, const Reward& reward, const Judge& judge, int64_t size)
    : options_(options), prompts_(prompts), reward_(reward), judge_(judge), size_(size) {
  for (const Prompt& p : prompts_) {
    for (int64_t i = 0; i < options_.images; ++i) captions_.push_back(p.caption);
  }
}

// Set `set` of images in [0, 1]: image i of prompt p comes from the noise keyed by its place, whatever the batch.
Tensor Evaluator::generate(const ImageGenerator& model, uint64_t set) const {
  torch::autograd::AutoGradMode off(false);
  const auto total = static_cast<int64_t>(captions_.size());
  const Tensor x = in_chunks(total, options_.batch, [&](int64_t start, int64_t length) {
    const Tensor noise = keyed_normal(static_cast<uint64_t>(options_.seed), Purpose::kEvalNoise, set, static_cast<uint64_t>(start), length,
                                      {3, size_, size_});
    return model({captions_.begin() + start, captions_.begin() + start + length}, noise);
  });
  return ((x + 1) / 2).clamp(0, 1);
}

Tensor Evaluator::features(const Tensor& pixels) const {
  return in_chunks(pixels.size(0), 256, [&](int64_t start, int64_t length) { return judge_.forward(pixels.narrow(0, start, length)).features; });
}

Estimate Evaluator::prompt_diversity(const Tensor& f) const {
  std::vector<double> spread;
  for (size_t p = 0; p < prompts_.size(); ++p) {
    spread.push_back(diversity(f.narrow(0, static_cast<int64_t>(p) * options_.images, options_.images)));
  }
  return estimate(spread);
}

Evaluation Evaluator::judge_images(const Tensor& pixels, Scores& scores) const {
  torch::autograd::AutoGradMode off(false);
  const Tensor rewards = in_chunks(pixels.size(0), 256, [&](int64_t start, int64_t length) {
    return reward_.score(pixels.narrow(0, start, length), {captions_.begin() + start, captions_.begin() + start + length});
  });
  const Tensor probabilities = in_chunks(pixels.size(0), 256, [&](int64_t start, int64_t length) {
    return at::softmax(judge_.forward(pixels.narrow(0, start, length)).logits, 1);
  });
  std::vector<int64_t> wanted;
  for (const Prompt& p : prompts_) wanted.insert(wanted.end(), static_cast<size_t>(options_.images), p.subgroup);
  const Tensor target = at::tensor(wanted);
  Evaluation e;
  scores.reward = group_means(rewards, options_.images);
  e.reward = estimate(scores.reward);
  e.reward_sd_within_prompt = within_group_sd(rewards, options_.images);
  scores.judge = group_means(probabilities.argmax(1) == target, options_.images);
  e.judge_accuracy = estimate(scores.judge);
  e.judge_score = estimate(group_means(probabilities.gather(1, target.unsqueeze(1)).squeeze(1), options_.images));
  const Tensor f = features(pixels);
  e.diversity = prompt_diversity(f);
  e.saturated = saturated_share(pixels);
  const auto seed = static_cast<uint64_t>(options_.seed);
  e.fd = frechet_distance(f, reference_features_);
  e.fd_floor = frechet_distance(base_features_, reference_features_);
  e.kid = kernel_distance(f, reference_features_, seed);
  e.kid_floor = kernel_distance(base_features_, reference_features_, seed);
  return e;
}

Evaluation Evaluator::evaluate_base(const ImageGenerator& base) {
  torch::autograd::AutoGradMode off(false);
  const Tensor pixels = generate(base, 0);
  base_features_ = features(pixels);
  reference_features_ = features(generate(base, 1));
  return judge_images(pixels, base_scores_);
}

Evaluation Evaluator::evaluate(const ImageGenerator& model) const {
  VGGFLOW_CHECK(reference_features_.defined(), "[evaluate] the base model must be evaluated first");
  Scores scores;
  Evaluation e = judge_images(generate(model, 0), scores);
  e.reward_change = paired_change(scores.reward, base_scores_.reward);
  e.judge_change = paired_change(scores.judge, base_scores_.judge);
  return e;
}

}  // namespace vggflow
