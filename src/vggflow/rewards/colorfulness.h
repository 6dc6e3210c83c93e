#pragma once
// Colourfulness of Hasler and Suesstrunk (2003), M3: with rg = R - G and yb = (R + G)/2 - B over
// the pixels of one image on the 0..255 scale,  M = sqrt(var(rg) + var(yb)) + 0.3 sqrt(mean(rg)^2 +
// mean(yb)^2).  No weights; the prompt is ignored.

#include <string>
#include <vector>

#include "vggflow/rewards/reward.h"

namespace vggflow {

class ColorfulnessReward : public Reward {
 public:
  Tensor score(const Tensor& images, const std::vector<std::string>& prompts) const override;
  Dual score(const Dual& images, const std::vector<std::string>& prompts) const override;
  std::string describe() const override { return "pixels at their own size, on the 0..255 scale"; }
};

}  // namespace vggflow
