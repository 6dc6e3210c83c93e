#pragma once
// What a pass through a frozen network that looks at images costs (nn/pass_cost.h). The byte counts
// follow what the operations of ops/ save for the gradient to the image, in the order of the
// networks' own forward functions; vision_cost_test holds them against an allocator's count.

#include "vggflow/networks/clip/clip_vision.h"
#include "vggflow/networks/vision/mobilenet.h"
#include "vggflow/networks/vision/vit.h"
#include "vggflow/nn/pass_cost.h"

namespace vggflow {

/// A vision transformer's sizes: CLIP's image tower, BLIP's.
struct VisionTower {
  int64_t width = 1024, layers = 24, tokens = 257, patch = 14, mlp = 4096;
};
VisionTower tower_of(const ClipVisionOptions& options);
VisionTower tower_of(const VitOptions& options);

/// One image. `bytes` of a number in the products; `recompute`: layers keep their inputs alone and
/// run again.
PassCost vision_cost(const VisionTower& tower, int64_t bytes = 4, bool recompute = false);

/// One image of side x side pixels, fp32.
PassCost mobilenet_cost(const MobileNetOptions& options, int64_t side);

}  // namespace vggflow
