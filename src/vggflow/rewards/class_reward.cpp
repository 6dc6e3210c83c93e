#include "vggflow/rewards/class_reward.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cctype>
#include <iterator>

#include "vggflow/core/config.h"
#include "vggflow/core/error.h"
#include "vggflow/core/listing.h"
#include "vggflow/ops/resize.h"

namespace vggflow {
namespace {

std::vector<int64_t> ranges(std::initializer_list<std::pair<int64_t, int64_t>> first_and_last) {
  std::vector<int64_t> all;
  for (const auto& [first, last] : first_and_last) {
    for (int64_t c = first; c <= last; ++c) all.push_back(c);
  }
  return all;
}

std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> words(1);
  for (const char c : text) {
    if (std::isalpha(static_cast<unsigned char>(c))) {
      words.back() += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    } else if (!words.back().empty()) {
      words.emplace_back();
    }
  }
  return words;
}

// What is added to the logits of classes that are not asked for: far below any logit, and finite,
// so that derivatives are numbers.
constexpr double kOut = -1e9;

// log sum_{c in C_i} softmax(logits_i)_c, with C_i the classes asked for by prompt i.
template <TensorLike T, class Asked>
T log_share(const T& logits, const std::vector<std::string>& prompts, const std::string& reward,
            const Asked& asked) {
  VGGFLOW_CHECK(primal(logits).size(0) == std::ssize(prompts),
                "[{}] expected one prompt per image, got {} for {}", reward, prompts.size(),
                primal(logits).size(0));
  Tensor mask = at::full(primal(logits).sizes(), kOut, primal(logits).scalar_type());
  for (size_t i = 0; i < prompts.size(); ++i)
    mask[static_cast<int64_t>(i)].index_fill_(0, asked(prompts[i]), 0);
  mask = mask.to(primal(logits).device());
  return ops::logsumexp(logits + mask, 1, /*keepdim=*/false) -
         ops::logsumexp(logits, 1, /*keepdim=*/false);
}

}  // namespace

const std::vector<ImageNetClasses>& cifar10_classes() {
  static const std::vector<ImageNetClasses> all{
      {"airplane", {404, 895}},
      {"automobile", {436, 468, 511, 609, 627, 656, 661, 751, 817}},
      {"bird", ranges({{7, 24}, {80, 100}, {127, 146}})},
      {"cat", ranges({{281, 285}})},
      {"deer", ranges({{351, 353}})},
      {"dog", ranges({{151, 268}})},
      {"frog", ranges({{30, 32}})},
      {"horse", {339}},
      {"ship", {403, 484, 510, 554, 625, 628, 724, 780, 814, 871, 914}},
      {"truck", {555, 569, 675, 864, 867}},
  };
  return all;
}

int64_t place_in_prompt(const std::string& prompt, const std::vector<std::string>& classes,
                        const std::string& reward) {
  const auto words = words_of(prompt);
  std::vector<int64_t> found;
  for (int64_t c = 0; c < std::ssize(classes); ++c) {
    if (std::find(words.begin(), words.end(), classes[static_cast<size_t>(c)]) != words.end())
      found.push_back(c);
  }
  VGGFLOW_CHECK(found.size() == 1,
                "[{}] expected a prompt that names one of {} (\"a photo of a {}\"), got {} in '{}'",
                reward, examples_of(classes, ", "), classes.back(),
                found.empty() ? "none" : "several", prompt);
  return found.front();
}

const ImageNetClasses& class_in_prompt(const std::string& prompt) {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const ImageNetClasses& c : cifar10_classes()) all.push_back(c.name);
    return all;
  }();
  return cifar10_classes()[static_cast<size_t>(place_in_prompt(prompt, names, "mobilenet-class"))];
}

ClassReward::ClassReward(std::unique_ptr<MobileNet> net, int64_t size)
    : net_(std::move(net)), size_(size), first_class_(net_->options.classes - 1000) {
  VGGFLOW_CHECK(
      first_class_ == 0 || first_class_ == 1,
      "[mobilenet-class] expected a network of 1000 classes, or 1001 with a background, got {}",
      net_->options.classes);
}

template <TensorLike T>
T ClassReward::log_probability(const T& images, const std::vector<std::string>& prompts) const {
  const T logits = net_->logits(ops::resize(images, size_, size_, ops::Interpolation::kBilinear));
  return log_share(logits, prompts, "mobilenet-class", [&](const std::string& prompt) {
    return at::tensor(class_in_prompt(prompt).classes) + first_class_;
  });
}

Tensor ClassReward::score(const Tensor& images, const std::vector<std::string>& prompts) const {
  return log_probability(images, prompts);
}
Dual ClassReward::score(const Dual& images, const std::vector<std::string>& prompts) const {
  return log_probability(images, prompts);
}

template <TensorLike T>
T ClassHeadReward::log_probability(const T& images, const std::vector<std::string>& prompts) const {
  return log_share(head_->logits(images), prompts, "class-head", [&](const std::string& prompt) {
    return at::tensor({place_in_prompt(prompt, head_->options.classes, "class-head")});
  });
}

std::unique_ptr<Reward> make_class_head(const RewardResources& r) {
  return std::make_unique<ClassHeadReward>(
      ClassHead::load(r.at("class-head", "class-head"),
                      [&](const std::string& name) { return r.at(name, "class-head"); }));
}

std::unique_ptr<Reward> make_mobilenet_class(const RewardResources& r) {
  return std::make_unique<ClassReward>(load_mobilenet_v2(r.at("mobilenet-v2", "mobilenet-class")),
                                       r.mobilenet_size);
}

RewardCost class_head_cost(const RewardResources& r) {
  ClassHeadOptions o;
  const auto folder = r.weights.find("class-head");
  if (folder != r.weights.end() && std::filesystem::exists(folder->second / "config.yaml"))
    load_yaml(fields_of(o), folder->second / "config.yaml");
  const MobileNetOptions network = head_network_options(o.network);
  return mobilenet_reward_cost(
      network, o.size, static_cast<double>((feature_count(network) + 1) * std::ssize(o.classes)));
}

RewardCost mobilenet_class_cost(const RewardResources& r) {
  return mobilenet_reward_cost(mobilenet_v2_options(1001), r.mobilenet_size);
}

}  // namespace vggflow
