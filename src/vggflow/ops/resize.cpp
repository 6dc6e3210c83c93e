#include "vggflow/ops/resize.h"

#include <ATen/ops/_upsample_bicubic2d_aa.h>
#include <ATen/ops/_upsample_bilinear2d_aa.h>
#include <ATen/ops/upsample_bicubic2d.h>
#include <ATen/ops/upsample_bilinear2d.h>

#include <array>

#include "vggflow/core/error.h"

namespace vggflow::ops {

Tensor resize(const Tensor& x, int64_t height, int64_t width, Interpolation interpolation,
              bool antialias) {
  VGGFLOW_CHECK(x.dim() == 4 && x.numel() > 0 &&
                    (x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble),
                "[resize] expected images (B, C, H, W) of float or double, got {} of {}",
                shape_string(x), c10::toString(x.scalar_type()));
  VGGFLOW_CHECK(height > 0 && width > 0,
                "[resize] expected a positive height and width, got {} and {}", height, width);
  if (x.size(2) == height && x.size(3) == width) return x;
  const std::array<int64_t, 2> size{height, width};
  if (interpolation == Interpolation::kBicubic) {
    return antialias ? at::_upsample_bicubic2d_aa(x, size, /*align_corners=*/false)
                     : at::upsample_bicubic2d(x, size, /*align_corners=*/false);
  }
  return antialias ? at::_upsample_bilinear2d_aa(x, size, /*align_corners=*/false)
                   : at::upsample_bilinear2d(x, size, /*align_corners=*/false);
}

Dual resize(const Dual& x, int64_t height, int64_t width, Interpolation interpolation,
            bool antialias) {
  return {ops::resize(x.value, height, width, interpolation, antialias),
          ops::resize(x.tangent, height, width, interpolation, antialias)};
}

Tensor resize_pixels(const Tensor& pixels, int64_t height, int64_t width) {
  if (pixels.size(2) == height && pixels.size(3) == width) return pixels;
  return ops::resize(pixels, height, width, Interpolation::kBicubic).clamp(0, 1);
}

}  // namespace vggflow::ops
