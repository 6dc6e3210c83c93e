#pragma once
// NIMA (Talebi and Milanfar 2018): the mean of a predicted distribution of human ratings 1 to 10,
// r = sum_i i softmax(logits)_i. `nima-aesthetic` was trained on AVA's ratings of photographs,
// `nima-technical` on TID2013's of distortions. The prompt is ignored.

#include <fmt/format.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "vggflow/core/error.h"
#include "vggflow/networks/vision/mobilenet.h"
#include "vggflow/rewards/reward.h"

namespace vggflow {

class NimaReward : public Reward {
 public:
  /// Images are stretched to size x size (bilinear, antialiased) and scored there.
  NimaReward(std::unique_ptr<MobileNet> net, int64_t size) : net_(std::move(net)), size_(size) {}
  Tensor score(const Tensor& images, const std::vector<std::string>& prompts) const override;
  Dual score(const Dual& images, const std::vector<std::string>& prompts) const override;
  std::string describe() const override {
    return fmt::format("stretched to {} x {}, bilinear, antialiased; pixels to [-1, 1]", size_,
                       size_);
  }
  std::string weights_hash() const override { return net_->options.hash; }

 private:
  std::unique_ptr<MobileNet> net_;
  int64_t size_;
};

std::unique_ptr<Reward> make_nima_aesthetic(
    const RewardResources& resources);  ///< weights 'nima-aesthetic'
std::unique_ptr<Reward> make_nima_technical(
    const RewardResources& resources);  ///< weights 'nima-technical'

}  // namespace vggflow
