#pragma once
// From the flow's x in [-1, 1] to the pixels in [0, 1] that rewards see. Values outside the range are clipped, and the setting
// says what the clip does to gradients: a hard clamp has none on saturated pixels.

#include <string>

#include "vggflow/ops/functional.h"

namespace vggflow {

/// "hard": clamp with its own derivative; "straight_through": clamp whose derivative is 1; "none": no clamp.
template <TensorLike T>
T to_pixels(const T& x, const std::string& clamp);

}  // namespace vggflow
