#pragma once
// Rewards r(image, prompt), differentiable but for those that only judge. Each is a member function
// of one class and is named in one list (make_reward); "0.7*emoji-clip + 0.3*colorfulness" is a
// weighted sum; names with a scheme, plugin:/path/lib.so, are a user's own.

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "vggflow/core/field.h"
#include "vggflow/ops/functional.h"
#include "vggflow/rewards/reward_cost.h"

namespace vggflow {

class Reward {
 public:
  virtual ~Reward() = default;
  /// Scores (B) of images (B, 3, H, W) in [0, 1], fp32, one prompt each; differentiable to the
  /// images.
  virtual Tensor score(const Tensor& images, const std::vector<std::string>& prompts) const = 0;
  /// The same with a directional derivative, for Hessian-vector products.
  virtual Dual score(const Dual& images, const std::vector<std::string>& prompts) const = 0;
  /// The parts (P, B) of a weighted sum, and their weights; a single reward is one part of
  /// weight 1.
  virtual Tensor parts(const Tensor& images, const std::vector<std::string>& prompts) const {
    return score(images, prompts).unsqueeze(0);
  }
  virtual Dual parts(const Dual& images, const std::vector<std::string>& prompts) const {
    return ops::unsqueeze(score(images, prompts), 0);
  }
  virtual std::vector<double> weights() const { return {1.0}; }
  /// Whether there are gradients; without them a reward can judge, but not train.
  virtual bool differentiable() const { return true; }
  /// Images so far that got no score: theirs is NaN. Only a judge that may decline has any.
  virtual int64_t unscored() const { return 0; }
  /// Input size and normalisation in a line for people; empty where the reward does not tell.
  virtual std::string describe() const { return {}; }
  /// Which weights it has (content_hash), for scores that are known of these alone; empty where
  /// there are none, or the reward does not tell.
  virtual std::string weights_hash() const { return {}; }
};

/// Where rewards find the weights that are not the project's own: files or folders by name.
struct RewardResources {
  std::filesystem::path emoji_clip;  ///< model folder
  std::map<std::string, std::filesystem::path> weights = {};
  at::ScalarType dtype = at::kFloat;  ///< of the large networks' products
  bool recompute = false;   ///< large networks keep little for their gradient and run forward twice
  int64_t nima_size = 224;  ///< side at which NIMA sees images
  int64_t mobilenet_size = 224;  ///< side at which mobilenet-class sees them
  int64_t jpeg_quality = 95;
  /// The path given for `name`; an error that says how to give it where `reward` has none.
  std::filesystem::path at(const std::string& name, const std::string& reward) const;
};

/// Arithmetic of the large rewards' products.
enum class RewardDtype { kFp32, kBf16 };
inline OptionWords<RewardDtype> option_words(RewardDtype) {
  return {{"fp32", RewardDtype::kFp32}, {"bf16", RewardDtype::kBf16}};
}

/// The settings behind RewardResources.
struct RewardFiles {
  std::string reward_model = "models/emoji-clip";
  std::vector<std::string> reward_weights;
  RewardDtype reward_dtype = RewardDtype::kFp32;
  bool reward_recompute = false;
  int64_t nima_size = 224;
  int64_t mobilenet_size = 224;
  int64_t jpeg_quality = 95;

  template <class V>
  void fields(V& v) {
    v("reward_model", reward_model, "folder of emoji-clip");
    v("reward_weights", reward_weights,
      "weights of the other rewards, as name=path: [clip-vit-l14=DIR, aesthetic-head=FILE] "
      "(docs/rewards.md)");
    v("reward_dtype", reward_dtype, "number format of matrix products in the large rewards");
    v("reward_recompute", reward_recompute,
      "gradient checkpointing for the large rewards: less memory, one more forward pass");
    v("nima_size", nima_size, "input size in pixels of nima-aesthetic and nima-technical",
      range(32, 4096));
    v("mobilenet_size", mobilenet_size, "input size in pixels of mobilenet-class", range(32, 4096));
    v("jpeg_quality", jpeg_quality, "JPEG quality of the reward jpeg", range(1, 100));
  }
  RewardResources resources() const;
};

/// Known names, in alphabetical order.
std::vector<std::string> reward_names();

/// Makes a reward, of the weights that the settings name.
using RewardFactory = std::function<std::unique_ptr<Reward>(const RewardResources&)>;

/// Adds a reward that a program brings along: settings name it like those of this library, in
/// weighted sums too. To be called before other threads ask for rewards. Throws for a name that is
/// known already or that a weighted sum could not hold: letters, digits, '.', '_' and '-' only.
void add_reward(const std::string& name, RewardFactory make);

/// Throws, naming `name`, unless the reward has gradients: whoever trains or guides with a reward
/// calls this first.
void require_differentiable(const Reward& reward, const std::string& name);
/// What it throws; for the functions of rewards that have none.
[[noreturn]] void fail_without_gradient(const std::string& name);

/// What a reward takes by its name and settings, before any weights are opened; nothing for a
/// user's own, whose sizes are not known.
std::optional<RewardCost> reward_cost(const std::string& name, const RewardResources& resources);

/// What the names of a user's own rewards begin with: "plugin:" and the like. Each needs consent
/// where a file of settings names it (core/trust.h).
std::vector<std::string> reward_schemes();

/// Names of the rewards that an expression is made of.
std::vector<std::string> rewards_in(const std::string& expression);

/// A reward by name, or a weighted sum "w*name + w*name" (expression.h). An unknown name lists the
/// known ones.
std::unique_ptr<Reward> make_reward(const std::string& expression,
                                    const RewardResources& resources);

/// Reward and gradient at `images`: r (B) and dr/dimages (B, 3, H, W).
struct RewardGradient {
  Tensor score, gradient;
};
RewardGradient reward_gradient(const Reward& reward, const Tensor& images,
                               const std::vector<std::string>& prompts);

/// H_r(images) direction, the Hessian-vector product, by reverse mode through the tangent: grad_x
/// <grad r(x), direction>.
Tensor reward_hessian_product(const Reward& reward, const Tensor& images, const Tensor& direction,
                              const std::vector<std::string>& prompts);

}  // namespace vggflow
