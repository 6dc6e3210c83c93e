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
  Json opinions = Json::object();
  for (const auto& [name, o] : panel) opinions[name] = {{"mean", o.score.mean}, {"se", o.score.se}, {"change", json_of(o.change)}};
  return {{"reward", json_of(reward)},
          {"panel", opinions},
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

JudgePanel load_panel(const std::vector<std::string>& names, const std::string& trained, const RewardResources& resources) {
  const auto in_training = rewards_in(trained);
  JudgePanel panel;
  for (const std::string& name : names) {
    if (std::find(in_training.begin(), in_training.end(), name) == in_training.end()) panel.emplace_back(name, make_reward(name, resources));
  }
  return panel;
}

std::vector<std::pair<std::string, std::string>> complaints(const Evaluation& base, const Evaluation& now, double diversity_floor) {
  std::vector<std::pair<std::string, std::string>> all;
  const auto fell = [](const Estimate& change) { return change.mean < -2 * change.se; };
  const bool rose = now.reward_change.mean > 0;
  const char* ending = rose ? " while the reward rose: reward hacking" : "";
  if (fell(now.judge_change)) {
    all.emplace_back(rose ? "reward_hacking" : "judge",
                     fmt::format("the judge's accuracy fell by {:.1f} +- {:.1f} points (paired by prompt){}", -100 * now.judge_change.mean,
                                 100 * now.judge_change.se, ending));
  }
  for (const auto& [name, o] : now.panel) {
    if (!fell(o.change)) continue;
    all.emplace_back(rose ? "reward_hacking" : "panel",
                     fmt::format("{} fell by {:.3f} +- {:.3f} (paired by prompt){}", name, -o.change.mean, o.change.se, ending));
  }
  if (now.diversity.mean < diversity_floor * base.diversity.mean) {
    all.emplace_back("diversity", fmt::format("diversity is {:.0f} % of the base model's, below the floor of {:.0f} %",
                                              100 * now.diversity.mean / base.diversity.mean, 100 * diversity_floor));
  }
  return all;
}

Evaluator::Evaluator(const EvalOptions& options, const std::vector<Prompt>& prompts, const Reward& reward, const Judge& judge, JudgePanel panel,
                     int64_t size)
    : options_(options), prompts_(prompts), reward_(reward), judge_(judge), panel_(std::move(panel)), size_(size) {
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

Tensor Evaluator::scores_of(const Reward& reward, const Tensor& pixels) const {
  return in_chunks(pixels.size(0), 256, [&](int64_t start, int64_t length) {
    return reward.score(pixels.narrow(0, start, length), {captions_.begin() + start, captions_.begin() + start + length});
  });
}

Evaluation Evaluator::judge_images(const Tensor& pixels, Scores& scores) const {
  torch::autograd::AutoGradMode off(false);
  const Tensor rewards = scores_of(reward_, pixels);
  const Tensor probabilities = in_chunks(pixels.size(0), 256, [&](int64_t start, int64_t length) {
    return at::softmax(judge_.forward(pixels.narrow(0, start, length)).logits, 1);
  });
  std::vector<int64_t> wanted;
  for (const Prompt& p : prompts_) wanted.insert(wanted.end(), static_cast<size_t>(options_.images), p.subgroup);
  const Tensor target = at::tensor(wanted);
  Evaluation e;
  scores.reward = group_means(rewards, options_.images);
  e.reward = estimate(scores.reward);
  for (const auto& [name, reward] : panel_) {
    scores.panel[name] = group_means(scores_of(*reward, pixels), options_.images);
    e.panel[name].score = estimate(scores.panel[name]);
  }
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
  for (auto& [name, o] : e.panel) o.change = paired_change(scores.panel.at(name), base_scores_.panel.at(name));
  return e;
}

}  // namespace vggflow
