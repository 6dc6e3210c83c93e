#pragma once
// `jpeg`: bytes of the image as a JPEG file of quality q (4:2:0, libjpeg's standard tables), a
// judge of how busy an image is. DDPO's (Black et al. 2023) incompressibility is this in kilobytes
// at q = 95, its compressibility the negative. There is no gradient.

#include <fmt/format.h>

#include <string>
#include <vector>

#include "vggflow/core/error.h"
#include "vggflow/rewards/reward.h"

namespace vggflow {

class JpegReward : public Reward {
 public:
  explicit JpegReward(int64_t quality) : quality_(static_cast<int>(quality)) {}
  Tensor score(const Tensor& images, const std::vector<std::string>& prompts) const override;
  Dual score(const Dual& images, const std::vector<std::string>& prompts) const override;
  std::string describe() const override {
    return fmt::format("8-bit pixels at their own size, JPEG of quality {}", quality_);
  }
  bool differentiable() const override { return false; }

 private:
  int quality_;
};

}  // namespace vggflow
