#pragma once
// From images in [0, 1] of any size to what an image network was trained on: a square of its size,
// standardised by channel. Differentiable, on floats throughout; the official scorers resize 8-bit
// images, and docs/rewards.md says how far apart the two are.

#include <array>
#include <string>

#include "vggflow/ops/functional.h"
#include "vggflow/ops/resize.h"

namespace vggflow {

/// How an image that is no square becomes one.
enum class Fit {
  kCropTorchvision,  ///< the shorter side to `size`, then the middle, a half pixel rounded to even:
                     ///< OpenAI, open_clip, torchvision
  kCropTransformers,  ///< the same with the half pixel cut off: transformers
  kPad,               ///< the longer side to `size`, then black around it: HPSv2
  kStretch,           ///< both sides to `size`
};

struct ImagePreprocess {
  int64_t size = 224;
  Fit fit = Fit::kCropTorchvision;
  ops::Interpolation interpolation = ops::Interpolation::kBicubic;
  bool antialias = true;
  std::array<double, 3> mean{0.48145466, 0.4578275, 0.40821073},
      deviation{0.26862954, 0.26130258, 0.27577711};  ///< CLIP's
};

/// For people: "the shorter side to 224, its middle, bicubic, antialiased; standardised by ...".
std::string describe(const ImagePreprocess& options);

/// (fit(images) - mean) / deviation: (B, 3, size, size) of images (B, 3, H, W) in [0, 1].
template <TensorLike T>
T preprocess(const T& images, const ImagePreprocess& options);

}  // namespace vggflow
