#pragma once
// The four things that `vggflow check` can prove, each printed as a table; those that
// judge return whether everything held.

#include <string>
#include <vector>

#include "vggflow/algorithms/vgg_flow.h"
#include "vggflow/device/device.h"
#include "vggflow/families/open_model.h"
#include "vggflow/rewards/reward.h"
#include "vggflow/rewards/reward_check.h"

namespace vggflow::cli {

/// The installation: kernels against plain twins and gradients, on the device that is open.
bool check_installation(const DeviceScope& device);

/// Every method against closed forms, by the claims whose name holds one of `claims`, or all; the
/// figures go to a folder unless it is empty.
bool check_analytic(const std::string& figures, const std::vector<std::string>& claims);

/// What rewards promise, asked of the one called `name`.
bool check_reward(const std::string& name, const RewardFiles& files, RewardCheckOptions options);

struct ValueGradientOptions {
  ModelOptions flow;
  std::vector<std::string> rewards{"emoji-clip", "colorfulness"};
  std::vector<double> guidance{1, 3, 5, 7};
  std::vector<std::string> grids{"single_shift:20:1", "single_shift:20:3", "diffusers_default:20:3",
                                 "diffusers_default:28:3"};
  int64_t prompts = 16;
  int64_t seed = 0;
  double damping = 0.5;
  std::string value = {};
  Guess value_guess = Guess::kOneStep;

  template <class V>
  void fields(V& v) {
    flow.fields(v);
    v("rewards", rewards, "rewards whose gradients are used");
    v("guidance", guidance, "guidance scales of the rollout and the pull-backs");
    v("grids", grids, "time grids, as KIND:STEPS:SHIFT (time_grid.*)");
    v("prompts", prompts, "held-out prompts, one trajectory each", range(1, 1e5));
    v("seed", seed, "seed of prompts and noise", range(0, 1e15));
    v("damping", damping, "as vgg.damping", range(1e-6, 1e12));
    v("value", value, "value network to compare as well: value.safetensors");
    v("value_guess", value_guess, "the vgg.guess that the value network was trained with");
  }
};

/// VGG-Flow's choices of g against the lean adjoint of a model's own trajectories.
void check_value_gradient(const ValueGradientOptions& options, const RewardFiles& files);

}  // namespace vggflow::cli
