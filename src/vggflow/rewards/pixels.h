#pragma once
// From the flow's x in [-1, 1] to the pixels in [0, 1] that rewards see. Values outside the range
// are clipped, and the setting says what the clip does to gradients: a hard clamp has none on
// saturated pixels.

#include "vggflow/core/field.h"
#include "vggflow/ops/functional.h"

namespace vggflow {

/// How pixels y = (x + 1) / 2 are brought into the range, and its derivative:
///   hard              min(max(y, 0), 1); 1 inside and 0 outside
///   straight_through  the same, but with the derivative 1 everywhere
///   soft              y inside [m, 1 - m], m = 0.05; beyond, at a distance of u margins m, the
///   bend
///                     m u / sqrt(1 + u^2) towards 0 or 1, which no finite y reaches; 1 inside and
///                     (1 + u^2)^(-3/2) beyond. Twice continuously differentiable; an exact 0 or 1
///                     becomes 0.0146 or 0.9854 (3.7 levels of 255) and keeps 0.35 of its
///                     derivative, y = 1.2 keeps 0.0075
///   none              y
enum class PixelClamp { kHard, kStraightThrough, kSoft, kNone };
inline OptionWords<PixelClamp> option_words(PixelClamp) {
  return {{"hard", PixelClamp::kHard},
          {"straight_through", PixelClamp::kStraightThrough},
          {"soft", PixelClamp::kSoft},
          {"none", PixelClamp::kNone}};
}

template <TensorLike T>
T to_pixels(const T& x, PixelClamp clamp);

}  // namespace vggflow
