#pragma once
// How good VGG-Flow's choices of g are on a model that ships: each held against the lean adjoint of
// the base's own trajectories on held-out prompts (docs/coarse-adjoint.md). `vggflow check
// --value-gradient` prints it.

#include <functional>
#include <string>
#include <vector>

#include "vggflow/families/open_model.h"
#include "vggflow/rewards/reward.h"

namespace vggflow {

struct ValueGradientOptions {
  ModelOptions flow;
  std::vector<std::string> rewards{"emoji-clip", "colorfulness"};
  std::vector<double> guidance{1, 3, 5, 7};
  std::vector<std::string> grids{"single_shift:20:1", "single_shift:20:3", "diffusers_default:20:3",
                                 "diffusers_default:28:3"};
  int64_t prompts = 16;
  int64_t seed = 0;
  double damping = 0.5;

  template <class V>
  void fields(V& v) {
    flow.fields(v);
    v("rewards", rewards, "rewards whose gradients are taken");
    v("guidance", guidance, "guidance scales, of the rollout and of the pull-backs");
    v("grids", grids, "time grids, each KIND:STEPS:SHIFT as in time_grid");
    v("prompts", prompts, "held-out prompts, one trajectory each", range(1, 1e5));
    v("seed", seed, "seed of prompts and noise", range(0, 1e15));
    v("damping", damping, "as vgg.damping", range(1e-6, 1e12));
  }
};

/// A mean over trajectories and its standard error.
struct Figure {
  double mean = 0, error = 0;
};

/// One choice of g under one setting. Transitions but the last, where g is known.
struct ValueGradientRow {
  std::string name;
  double pulls = 0;   ///< pull-backs of one trajectory
  double passes = 0;  ///< F + J + B of one trajectory of an update with 5 transitions
  Figure cosine;      ///< with the lean adjoint, mean over transitions
  Figure gain;        ///< sum h <g, a> over the root of sum h |g|^2 sum h |a|^2, all transitions
  double ratio = 0;   ///< geometric mean of |g| / |a|
  double error = 0;   ///< mean of |g - a| / |a|
};

struct ValueGradientTable {
  std::string reward, grid;
  double guidance = 0;
  std::vector<ValueGradientRow> rows;
};

/// Every setting in turn; `show` is called with each table as it is done.
void check_value_gradient(const ValueGradientOptions& options, const RewardFiles& files,
                          const std::function<void(const ValueGradientTable&)>& show);

}  // namespace vggflow
