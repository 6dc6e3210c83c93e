#pragma once
// What a reward takes, before its weights are opened: the plan adds these up.

#include "vggflow/networks/vision/vision_cost.h"

namespace vggflow {

struct RewardCost {
  double parameters = 0;
  double bytes = 0;    ///< of its weights
  PassCost pass = {};  ///< of one image, without the copies of its pixels that every reward takes
  double pixels = 0;   ///< images that its graph keeps besides those
  bool half = false;   ///< its products run in bf16
};

/// A reward on a transformer, whose products run in `dtype`; `parameters` of everything it holds.
RewardCost transformer_reward_cost(const VisionTower& tower, double parameters,
                                   at::ScalarType dtype, bool recompute);
/// A reward on a mobile network that sees images at side x side, with `more` parameters besides.
RewardCost mobilenet_reward_cost(const MobileNetOptions& options, int64_t side, double more = 0);

}  // namespace vggflow
