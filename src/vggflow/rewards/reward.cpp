#include "vggflow/rewards/reward.h"

#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <sstream>

#include "vggflow/core/error.h"
#include "vggflow/core/nearest.h"
#include "vggflow/rewards/aesthetic.h"
#include "vggflow/rewards/class_reward.h"
#include "vggflow/rewards/clip_reward.h"
#include "vggflow/rewards/colorfulness.h"
#include "vggflow/rewards/emoji_clip_reward.h"
#include "vggflow/rewards/image_reward.h"
#include "vggflow/rewards/jpeg_reward.h"
#include "vggflow/rewards/nima_reward.h"

namespace vggflow {
namespace {

using Factory = std::unique_ptr<Reward> (*)(const RewardResources&);

const std::vector<std::pair<std::string, Factory>>& registry() {
  static const std::vector<std::pair<std::string, Factory>> list{
      {"aesthetic", [](const RewardResources& r) -> std::unique_ptr<Reward> { return std::make_unique<AestheticReward>(r); }},
      {"clip-score", make_clip_score},
      {"colorfulness", [](const RewardResources&) -> std::unique_ptr<Reward> { return std::make_unique<ColorfulnessReward>(); }},
      {"emoji-clip", [](const RewardResources& r) -> std::unique_ptr<Reward> { return std::make_unique<EmojiClipReward>(r.emoji_clip); }},
      {"hpsv2.1", make_hpsv2},
      {"imagereward", [](const RewardResources& r) -> std::unique_ptr<Reward> { return std::make_unique<ImageRewardReward>(r); }},
      {"jpeg", [](const RewardResources& r) -> std::unique_ptr<Reward> { return std::make_unique<JpegReward>(r.jpeg_quality); }},
      {"mobilenet-class", make_mobilenet_class},
      {"nima-aesthetic", make_nima_aesthetic},
      {"nima-technical", make_nima_technical},
      {"pickscore", make_pickscore},
  };
  return list;
}

class WeightedSum : public Reward {
 public:
  void add(double weight, std::unique_ptr<Reward> reward) { parts_.emplace_back(weight, std::move(reward)); }
  Tensor score(const Tensor& images, const std::vector<std::string>& prompts) const override { return total(images, prompts); }
  Dual score(const Dual& images, const std::vector<std::string>& prompts) const override { return total(images, prompts); }
  Tensor parts(const Tensor& images, const std::vector<std::string>& prompts) const override { return each(images, prompts); }
  Dual parts(const Dual& images, const std::vector<std::string>& prompts) const override { return each(images, prompts); }
  std::vector<double> weights() const override {
    std::vector<double> all;
    for (const auto& [weight, reward] : parts_) all.push_back(weight);
    return all;
  }
  bool differentiable() const override {
    return std::all_of(parts_.begin(), parts_.end(), [](const auto& part) { return part.second->differentiable(); });
  }

 private:
  template <TensorLike T>
  T each(const T& images, const std::vector<std::string>& prompts) const {
    std::vector<T> scores;
    for (const auto& [weight, reward] : parts_) scores.push_back(ops::unsqueeze(reward->score(images, prompts), 0));
    return ops::cat(scores, 0);
  }

  template <TensorLike T>
  T total(const T& images, const std::vector<std::string>& prompts) const {
    T sum = parts_.front().second->score(images, prompts) * parts_.front().first;
    for (size_t i = 1; i < parts_.size(); ++i) sum = sum + parts_[i].second->score(images, prompts) * parts_[i].first;
    return sum;
  }
  std::vector<std::pair<double, std::unique_ptr<Reward>>> parts_;
};

std::unique_ptr<Reward> make_named(const std::string& name, const RewardResources& resources) {
  for (const auto& [known, factory] : registry()) {
    if (known == name) return factory(resources);
  }
  fail("[reward] unknown reward '{}'; known are {}", name, fmt::join(reward_names(), ", "));
}

std::string trim(const std::string& text) {
  const size_t a = text.find_first_not_of(' '), b = text.find_last_not_of(' ');
  return a == std::string::npos ? "" : text.substr(a, b - a + 1);
}

double parse_weight(const std::string& text, const std::string& expression) {
  try {
    size_t used = 0;
    const double weight = std::stod(text, &used);
    if (used == text.size() && std::isfinite(weight)) return weight;
  } catch (const std::logic_error&) {
    // reported below
  }
  fail("[reward] expected 'weight*name + weight*name', got '{}' in '{}'", text, expression);
}

}  // namespace

std::vector<std::string> reward_names() {
  std::vector<std::string> names;
  for (const auto& [name, factory] : registry()) names.push_back(name);
  return names;
}

std::filesystem::path RewardResources::at(const std::string& name, const std::string& reward) const {
  const auto found = weights.find(name);
  VGGFLOW_CHECK(found != weights.end(), "[reward] {} needs the weights '{}', which are not given; pass reward_weights=[{}=PATH]", reward, name, name);
  VGGFLOW_CHECK(std::filesystem::exists(found->second), "[reward] the weights '{}' of {} are not at {}", name, reward, found->second.string());
  return found->second;
}

RewardResources RewardFiles::resources() const {
  RewardResources r{reward_model, {}, reward_dtype == "bf16" ? at::kBFloat16 : at::kFloat, reward_recompute, nima_size, mobilenet_size, jpeg_quality};
  for (const std::string& entry : reward_weights) {
    const size_t equals = entry.find('=');
    VGGFLOW_CHECK(equals != std::string::npos && equals > 0 && equals + 1 < entry.size(), "[reward_weights] expected name=path, got '{}'", entry);
    const auto [place, fresh] = r.weights.emplace(entry.substr(0, equals), entry.substr(equals + 1));
    VGGFLOW_CHECK(fresh, "[reward_weights] '{}' is given twice", place->first);
  }
  return r;
}

namespace {

// "0.7*a + b" as (weight, name) pairs.
std::vector<std::pair<double, std::string>> parse_expression(const std::string& expression) {
  if (expression.find_first_of("*+") == std::string::npos) return {{1.0, trim(expression)}};
  std::vector<std::pair<double, std::string>> terms;
  std::istringstream in(expression);
  for (std::string term; std::getline(in, term, '+');) {
    const size_t star = term.find('*');
    terms.emplace_back(star == std::string::npos ? 1.0 : parse_weight(trim(term.substr(0, star)), expression),
                       trim(star == std::string::npos ? term : term.substr(star + 1)));
  }
  return terms;
}

}  // namespace

void fail_without_gradient(const std::string& name) {
  fail("[reward] {} has no gradient: it can judge (eval, eval.panel, check), but a run cannot be trained on it, nor sampling be guided by it", name);
}

void require_differentiable(const Reward& reward, const std::string& name) {
  if (!reward.differentiable()) fail_without_gradient(name);
}

std::vector<std::string> rewards_in(const std::string& expression) {
  std::vector<std::string> names;
  for (const auto& [weight, name] : parse_expression(expression)) names.push_back(name);
  return names;
}

std::unique_ptr<Reward> make_reward(const std::string& expression, const RewardResources& resources) {
  const auto terms = parse_expression(expression);
  if (terms.size() == 1 && terms.front().first == 1.0) return make_named(terms.front().second, resources);
  auto sum = std::make_unique<WeightedSum>();
  for (const auto& [weight, name] : terms) sum->add(weight, make_named(name, resources));
  return sum;
}

RewardGradient reward_gradient(const Reward& reward, const Tensor& images, const std::vector<std::string>& prompts) {
  torch::autograd::AutoGradMode on(true);
  const Tensor x = images.detach().requires_grad_(true);
  const Tensor score = reward.score(x, prompts);
  return {score.detach(), torch::autograd::grad({score.sum()}, {x})[0]};
}

Tensor reward_hessian_product(const Reward& reward, const Tensor& images, const Tensor& direction,
                              const std::vector<std::string>& prompts) {
  torch::autograd::AutoGradMode on(true);
  const Tensor x = images.detach().requires_grad_(true);
  const Dual score = reward.score(Dual{x, direction.detach()}, prompts);
  return torch::autograd::grad({score.tangent.sum()}, {x})[0];
}

}  // namespace vggflow
