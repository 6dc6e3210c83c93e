#pragma once
// The four things that `vggflow check` can prove, each printed as a table; those that
// judge return whether everything held.

#include <string>

#include "vggflow/device/device.h"
#include "vggflow/rewards/reward.h"
#include "vggflow/rewards/reward_check.h"
#include "vggflow/train/value_gradient.h"

namespace vggflow::cli {

/// The installation: kernels against plain twins and gradients, on the device that is open.
bool check_installation(const DeviceScope& device);

/// Every method against closed forms; the figures go to a folder unless it is empty.
bool check_analytic(const std::string& figures);

/// What rewards promise, asked of the one called `name`.
bool check_reward(const std::string& name, const RewardFiles& files, RewardCheckOptions options);

/// VGG-Flow's choices of g against the lean adjoint of a model's own trajectories.
void check_value_gradient(const ValueGradientOptions& options, const RewardFiles& files);

}  // namespace vggflow::cli
