#pragma once
// Image augmentations for the networks that look at images, keyed per sample.

#include "vggflow/core/random.h"
#include "vggflow/data/emoji.h"

namespace vggflow {

struct AugmentOptions {
  int64_t shift = 3;    ///< pixels, each direction, filled with white
  double noise = 0.15;  ///< largest standard deviation of Gaussian noise
  double color = 0.3;   ///< largest relative change of brightness and contrast; 0 for none
  double saturation =
      0.0;  ///< largest relative change of saturation (distance to the pixel's grey); 0 for none
  double blur = 0.3;  ///< chance of a 2 x 2 blur

  template <class V>
  void fields(V& v) {
    v("shift", shift, "largest shift in pixels, filled with white", range(0, 16));
    v("noise", noise, "largest standard deviation of Gaussian noise", range(0, 1));
    v("color", color, "largest relative change of brightness and contrast", range(0, 1));
    v("saturation", saturation, "largest relative change of saturation", range(0, 1));
    v("blur", blur, "probability of a blur", range(0, 1));
  }
};

/// images (B, 3, S, S) in [0, 1] -> the same, changed; sample i is keyed by (seed, kAugment,
/// update, i).
Tensor augment(const Tensor& images, const AugmentOptions& options, uint64_t seed, uint64_t update);

}  // namespace vggflow
