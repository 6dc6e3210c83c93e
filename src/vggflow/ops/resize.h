#pragma once
// Resizing images as torch.nn.functional.interpolate(align_corners=False) does on float tensors:
// linear in the pixels, nothing is rounded or clipped, so bicubic filtering overshoots at edges.
// With antialias the filter is stretched by the scale when an image shrinks, and the cubic is the
// one of Pillow (a = -0.5), without it the cubic is sharper (a = -0.75): docs/rewards.md says how
// far 8-bit images of Pillow are from this.

#include "vggflow/ops/dual.h"

namespace vggflow::ops {

enum class Interpolation { kBilinear, kBicubic };

/// x (B, C, H, W), fp32 or fp64, to (B, C, height, width); x itself where it has that size.
Tensor resize(const Tensor& x, int64_t height, int64_t width, Interpolation interpolation,
              bool antialias = true);
Dual resize(const Dual& x, int64_t height, int64_t width, Interpolation interpolation,
            bool antialias = true);

/// Pixels (B, C, H, W) in [0, 1] at another size: bicubic, antialiased, and clipped, since that
/// filter overshoots. The same size is left alone.
Tensor resize_pixels(const Tensor& pixels, int64_t height, int64_t width);

}  // namespace vggflow::ops
