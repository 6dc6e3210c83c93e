#include "vggflow/rewards/reward_cost.h"

#include <c10/core/ScalarType.h>

namespace vggflow {

RewardCost transformer_reward_cost(const VisionTower& tower, double parameters,
                                   at::ScalarType dtype, bool recompute) {
  const auto bytes = static_cast<int64_t>(c10::elementSize(dtype));
  return {.parameters = parameters,
          .bytes = static_cast<double>(bytes) * parameters,
          .pass = vision_cost(tower, bytes, recompute),
          .half = bytes < 4};
}

RewardCost mobilenet_reward_cost(const MobileNetOptions& options, int64_t side, double more) {
  const double parameters = count_parameters<MobileNet>(options) + more;
  return {.parameters = parameters, .bytes = 4 * parameters, .pass = mobilenet_cost(options, side)};
}

}  // namespace vggflow
