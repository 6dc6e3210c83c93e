#include "vggflow/rewards/reward.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <set>
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
#include "vggflow/rewards/vote_reward.h"

namespace vggflow {
namespace {

// Name, factory, cost, and the names of the weights that it asks for.
struct Row {
  std::string name;
  RewardFactory make;
  RewardCost (*cost)(const RewardResources&);  ///< null: not known
  std::vector<std::string> weights = {};
};

template <class R>
std::unique_ptr<Reward> of_resources(const RewardResources& resources) {
  return std::make_unique<R>(resources);
}

std::vector<Row>& registry() {
  static std::vector<Row> list{
      {"aesthetic",
       of_resources<AestheticReward>,
       aesthetic_cost,
       {"clip-vit-l14", "aesthetic-head"}},
      {"class-head", make_class_head, class_head_cost, {"class-head"}},
      {"clip-score", make_clip_score, clip_score_cost, {"clip-vit-l14", "clip-tokenizer"}},
      {"colorfulness", make_colorfulness, colorfulness_cost},
      {"emoji-clip", make_emoji_clip, emoji_clip_cost},
      {"hpsv2.1", make_hpsv2, clip_huge_cost, {"hpsv2.1", "clip-tokenizer"}},
      {"imagereward",
       of_resources<ImageRewardReward>,
       image_reward_cost,
       {"imagereward", "bert-vocab"}},
      {"jpeg", make_jpeg, jpeg_cost},
      {"mobilenet-class", make_mobilenet_class, mobilenet_class_cost, {"mobilenet-v2"}},
      {"nima-aesthetic", make_nima_aesthetic, nima_cost, {"nima-aesthetic"}},
      {"nima-technical", make_nima_technical, nima_cost, {"nima-technical"}},
      {"pickscore", make_pickscore, clip_huge_cost, {"pickscore", "clip-tokenizer"}},
      {"vote-head", make_vote_head, vote_head_cost, {"vote-head", "clip-vit-l14"}},
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
  for (const Row& row : registry()) {
    if (row.name == name) return row.make(resources);
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
  std::set<std::string> names;
  for (const Row& row : registry()) names.insert(row.weights.begin(), row.weights.end());
  for (const std::string& network : feature_network_names()) names.insert(network);
  return {names.begin(), names.end()};
}

}  // namespace

std::vector<std::string> reward_names() {
  std::vector<std::string> names;
  for (const Row& row : registry()) names.push_back(row.name);
  return names;
}

void add_reward(const std::string& name, RewardFactory make) {
  const auto plain = [](unsigned char c) {
    return std::isalnum(c) || c == '.' || c == '_' || c == '-';
  };
  VGGFLOW_CHECK(!name.empty() && std::all_of(name.begin(), name.end(), plain),
                "[reward] expected a name of letters, digits, '.', '_' and '-', got '{}'", name);
  const auto place = std::lower_bound(registry().begin(), registry().end(), name,
                                      [](const Row& row, const auto& n) { return row.name < n; });
  VGGFLOW_CHECK(place == registry().end() || place->name != name,
                "[reward] there is a reward '{}' already; give yours another name", name);
  registry().insert(place, {name, std::move(make), nullptr});
}

std::optional<RewardCost> reward_cost(const std::string& name, const RewardResources& resources) {
  for (const Row& row : registry()) {
    if (row.name == name && row.cost) return row.cost(resources);
  }
  return std::nullopt;
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
      reward_model,     {},        reward_dtype == RewardDtype::kBf16 ? at::kBFloat16 : at::kFloat,
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
      "[reward] {} has no gradient: it can judge (eval, eval.panel, check), and a run can be "
      "trained on it by method=ram, but not by other methods, nor can sampling be guided by it",
      name);
}

void require_differentiable(const Reward& reward, const std::string& name) {
  if (!reward.differentiable()) fail_without_gradient(name);
}

std::vector<std::string> reward_schemes() {
  std::vector<std::string> all;
  for (const auto& [scheme, open] : schemes()) all.push_back(scheme);
  return all;
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
