#include "vggflow/rewards/reward.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/core/nearest.h"
#include "vggflow/features/feature_networks.h"
#include "vggflow/ops/vjp.h"
#include "vggflow/rewards/aesthetic.h"
#include "vggflow/rewards/class_reward.h"
#include "vggflow/rewards/clip_reward.h"
#include "vggflow/rewards/colorfulness.h"
#include "vggflow/rewards/emoji_clip_reward.h"
#include "vggflow/rewards/expression.h"
#include "vggflow/rewards/image_reward.h"
#include "vggflow/rewards/jpeg_reward.h"
#include "vggflow/rewards/nima_reward.h"
#include "vggflow/rewards/plugin_reward.h"
#include "vggflow/rewards/remote_reward.h"
#include "vggflow/rewards/torchscript_reward.h"

namespace vggflow {
namespace {

using Factory = std::unique_ptr<Reward> (*)(const RewardResources&);

const std::vector<std::pair<std::string, Factory>>& registry() {
  static const std::vector<std::pair<std::string, Factory>> list{
      {"aesthetic",
       [](const RewardResources& r) -> std::unique_ptr<Reward> {
         return std::make_unique<AestheticReward>(r);
       }},
      {"class-head", make_class_head},
      {"clip-score", make_clip_score},
      {"colorfulness",
       [](const RewardResources&) -> std::unique_ptr<Reward> {
         return std::make_unique<ColorfulnessReward>();
       }},
      {"emoji-clip",
       [](const RewardResources& r) -> std::unique_ptr<Reward> {
         return std::make_unique<EmojiClipReward>(r.emoji_clip);
       }},
      {"hpsv2.1", make_hpsv2},
      {"imagereward",
       [](const RewardResources& r) -> std::unique_ptr<Reward> {
         return std::make_unique<ImageRewardReward>(r);
       }},
      {"jpeg",
       [](const RewardResources& r) -> std::unique_ptr<Reward> {
         return std::make_unique<JpegReward>(r.jpeg_quality);
       }},
      {"mobilenet-class", make_mobilenet_class},
      {"nima-aesthetic", make_nima_aesthetic},
      {"nima-technical", make_nima_technical},
      {"pickscore", make_pickscore},
  };
  return list;
}

// Rewards of a user's own, by what their names begin with; the factory gets the rest of the name.
using Opener = std::unique_ptr<Reward> (*)(const std::string& address);

const std::vector<std::pair<std::string, Opener>>& schemes() {
  static const std::vector<std::pair<std::string, Opener>> list{
      {"http:",
       [](const std::string& address) -> std::unique_ptr<Reward> {
         return std::make_unique<RemoteReward>("http:" + address);
       }},
      {"https:",
       [](const std::string& address) -> std::unique_ptr<Reward> {
         return std::make_unique<RemoteReward>("https:" + address);
       }},
      {"plugin:",
       [](const std::string& address) -> std::unique_ptr<Reward> {
         return std::make_unique<PluginReward>(address);
       }},
      {"torchscript:",
       [](const std::string& address) -> std::unique_ptr<Reward> {
         return std::make_unique<TorchScriptReward>(address);
       }},
  };
  return list;
}

class WeightedSum : public Reward {
 public:
  void add(double weight, std::unique_ptr<Reward> reward) {
    parts_.emplace_back(weight, std::move(reward));
  }
  Tensor score(const Tensor& images, const std::vector<std::string>& prompts) const override {
    return total(images, prompts);
  }
  Dual score(const Dual& images, const std::vector<std::string>& prompts) const override {
    return total(images, prompts);
  }
  Tensor parts(const Tensor& images, const std::vector<std::string>& prompts) const override {
    return each(images, prompts);
  }
  Dual parts(const Dual& images, const std::vector<std::string>& prompts) const override {
    return each(images, prompts);
  }
  std::vector<double> weights() const override {
    std::vector<double> all;
    for (const auto& [weight, reward] : parts_) all.push_back(weight);
    return all;
  }
  bool differentiable() const override {
    return std::all_of(parts_.begin(), parts_.end(),
                       [](const auto& part) { return part.second->differentiable(); });
  }
  int64_t unscored() const override {
    int64_t sum = 0;
    for (const auto& [weight, reward] : parts_) sum += reward->unscored();
    return sum;
  }
  std::string describe() const override {
    std::vector<std::string> lines;
    for (const auto& [weight, reward] : parts_) {
      if (const std::string line = reward->describe(); !line.empty()) lines.push_back(line);
    }
    return fmt::format("{}", fmt::join(lines, "; "));
  }

 private:
  template <TensorLike T>
  T each(const T& images, const std::vector<std::string>& prompts) const {
    std::vector<T> scores;
    for (const auto& [weight, reward] : parts_)
      scores.push_back(ops::unsqueeze(reward->score(images, prompts), 0));
    return ops::cat(scores, 0);
  }

  template <TensorLike T>
  T total(const T& images, const std::vector<std::string>& prompts) const {
    T sum = parts_.front().second->score(images, prompts) * parts_.front().first;
    for (size_t i = 1; i < parts_.size(); ++i)
      sum = sum + parts_[i].second->score(images, prompts) * parts_[i].first;
    return sum;
  }
  std::vector<std::pair<double, std::unique_ptr<Reward>>> parts_;
};

std::unique_ptr<Reward> make_named(const std::string& name, const RewardResources& resources) {
  for (const auto& [known, factory] : registry()) {
    if (known == name) return factory(resources);
  }
  std::vector<std::string> known = reward_names();
  for (const auto& [scheme, open] : schemes()) {
    if (name.starts_with(scheme)) return open(name.substr(scheme.size()));
    known.push_back(scheme + "...");
  }
  fail("[reward] unknown reward '{}'; known are {}", name, fmt::join(known, ", "));
}

// Names that some reward, or a class head for its network, asks weights by.
std::vector<std::string> weight_names() {
  std::vector<std::string> names{"aesthetic-head", "bert-vocab", "class-head",  "clip-tokenizer",
                                 "clip-vit-l14",   "hpsv2.1",    "imagereward", "nima-aesthetic",
                                 "nima-technical", "pickscore"};
  for (const std::string& network : feature_network_names()) names.push_back(network);
  return names;
}

}  // namespace

std::vector<std::string> reward_names() {
  std::vector<std::string> names;
  for (const auto& [name, factory] : registry()) names.push_back(name);
  return names;
}

std::filesystem::path RewardResources::at(const std::string& name,
                                          const std::string& reward) const {
  const auto found = weights.find(name);
  VGGFLOW_CHECK(
      found != weights.end(),
      "[reward] {} needs the weights '{}', which are not given; pass reward_weights=[{}=PATH]",
      reward, name, name);
  VGGFLOW_CHECK(std::filesystem::exists(found->second),
                "[reward] the weights '{}' of {} are not at {}", name, reward,
                found->second.string());
  return found->second;
}

RewardResources RewardFiles::resources() const {
  RewardResources r{
      reward_model,     {},        reward_dtype == "bf16" ? at::kBFloat16 : at::kFloat,
      reward_recompute, nima_size, mobilenet_size,
      jpeg_quality};
  for (const std::string& entry : reward_weights) {
    const size_t equals = entry.find('=');
    VGGFLOW_CHECK(equals != std::string::npos && equals > 0 && equals + 1 < entry.size(),
                  "[reward_weights] expected name=path, got '{}'", entry);
    const std::string name = entry.substr(0, equals);
    const auto known = weight_names();
    VGGFLOW_CHECK(
        std::find(known.begin(), known.end(), name) != known.end(),
        "[reward_weights] nothing asks for weights named '{}'; did you mean {}? (docs/rewards.md)",
        name, fmt::join(nearest(name, known), ", "));
    const auto [place, fresh] =
        r.weights.emplace(entry.substr(0, equals), entry.substr(equals + 1));
    VGGFLOW_CHECK(fresh, "[reward_weights] '{}' is given twice", place->first);
  }
  return r;
}

void fail_without_gradient(const std::string& name) {
  fail(
      "[reward] {} has no gradient: it can judge (eval, eval.panel, check), but a run cannot be "
      "trained on it, nor sampling be guided by it",
      name);
}

void require_differentiable(const Reward& reward, const std::string& name) {
  if (!reward.differentiable()) fail_without_gradient(name);
}

std::vector<std::string> rewards_in(const std::string& expression) {
  std::vector<std::string> names;
  for (const auto& [weight, name] : parse_expression(expression)) names.push_back(name);
  return names;
}

std::unique_ptr<Reward> make_reward(const std::string& expression,
                                    const RewardResources& resources) {
  const auto terms = parse_expression(expression);
  if (terms.size() == 1 && terms.front().weight == 1.0)
    return make_named(terms.front().name, resources);
  auto sum = std::make_unique<WeightedSum>();
  for (const auto& [weight, name] : terms) sum->add(weight, make_named(name, resources));
  return sum;
}

RewardGradient reward_gradient(const Reward& reward, const Tensor& images,
                               const std::vector<std::string>& prompts) {
  const auto [score, gradient] =
      value_and_gradient([&](const Tensor& x) { return reward.score(x, prompts); }, images);
  return {score, gradient};
}

Tensor reward_hessian_product(const Reward& reward, const Tensor& images, const Tensor& direction,
                              const std::vector<std::string>& prompts) {
  return gradient_of(
      [&](const Tensor& x) { return reward.score(Dual{x, direction.detach()}, prompts).tangent; },
      images);
}

}  // namespace vggflow
