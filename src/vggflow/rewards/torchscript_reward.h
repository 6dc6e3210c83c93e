#pragma once
// A reward saved by torch.jit.save: torchscript:/path.pt. Its forward takes images (B, 3, H, W) in
// [0, 1] and a list of B texts and returns scores (B); one that takes images alone is given no
// texts. It runs on the CPU, in the images' dtype where its operators allow it.
//
// Autograd goes through it, twice where Hessian products are asked for: the tangent along dx is
// <grad r, dx>, and reverse mode through that is exact. An operator without a second derivative is
// refused by PyTorch in its own words; vgg.consistency.kind=off needs none.

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "vggflow/rewards/reward.h"

namespace torch::jit {
struct Module;
}

namespace vggflow {

class TorchScriptReward : public Reward {
 public:
  explicit TorchScriptReward(const std::filesystem::path& file);
  ~TorchScriptReward() override;
  Tensor score(const Tensor& images, const std::vector<std::string>& prompts) const override;
  Dual score(const Dual& images, const std::vector<std::string>& prompts) const override;
  std::string describe() const override {
    return "TorchScript module " + file_.string() + ": pixels in [0, 1] at their own size";
  }

 private:
  std::filesystem::path file_;
  std::unique_ptr<torch::jit::Module> module_;
  bool takes_prompts_;
};

}  // namespace vggflow
