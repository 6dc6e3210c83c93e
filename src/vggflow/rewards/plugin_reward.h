#pragma once
// A reward in a shared library: plugin:/path/lib.so?key=value. The C interface is
// include/vggflow/reward_plugin.h.
//
// The plug-in gives r and grad r in fp32. What it cannot give is made of these: the tangent along
// dx is <grad r, dx>, and reverse mode through a gradient (the Hessian product of the exact
// consistency loss) is the central difference
//
//   H c = (grad r(x + h c / s) - grad r(x - h c / s)) s / (2 h),   s the root mean square of c over
//   one image,  h = kHessianStep,
//
// at the cost of two gradients. Images that are not finite are not shown to the plug-in: their
// scores and gradients are NaN.

#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "vggflow/rewards/reward.h"

struct vggflow_reward_batch;

namespace vggflow {

struct PluginLibrary;

class PluginReward : public Reward {
 public:
  /// Root mean square step in pixels. Relative error of the product measured on the example: 1e-4
  /// along random directions (rounding: smaller steps do worse), 1e-2 along the gradient on an
  /// image of 5 % contrast (curvature: larger steps do worse).
  static constexpr double kHessianStep = 3e-4;

  /// `address` is the library's path and options. Throws for a library that cannot be loaded, lacks
  /// a function, speaks another version of the interface, or does not take the options.
  explicit PluginReward(const std::string& address);
  ~PluginReward() override;
  Tensor score(const Tensor& images, const std::vector<std::string>& prompts) const override;
  Dual score(const Dual& images, const std::vector<std::string>& prompts) const override;
  bool differentiable() const override;
  std::string describe() const override;

  /// r (B) and, where asked, grad r (B, 3, H, W) at images of any float dtype, in theirs. Throws
  /// where the plug-in reports an error, throws, writes beside its numbers or gives some that are
  /// not finite; what it does to the whole program: plugin_guard.h.
  RewardGradient evaluate(const Tensor& images, const std::vector<std::string>& prompts,
                          bool with_gradient) const;
  /// H c, each sample with its own c (B, 3, H, W), by the central difference above.
  Tensor hessian_product(const Tensor& images, const Tensor& c,
                         const std::vector<std::string>& prompts) const;

 private:
  RewardGradient call(const Tensor& images, const std::vector<std::string>& prompts,
                      bool with_gradient) const;
  std::unique_lock<std::mutex> exclusive() const;
  void destroy();

  std::string path_;
  std::unique_ptr<PluginLibrary> library_;
  void* object_ = nullptr;
  uint32_t flags_ = 0;
  mutable std::mutex mutex_;
};

}  // namespace vggflow
