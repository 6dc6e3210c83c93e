#pragma once
// Features that need no weights: the image itself, seen from afar. They stand in where no feature
// network is given, and say little about what an image shows.

#include <ATen/TensorOperators.h>
#include <ATen/ops/adaptive_avg_pool2d.h>

#include <string>

#include "vggflow/features/feature_network.h"

namespace vggflow {

class PixelFeatures : public FeatureNetwork {
 public:
  /// (B, 3 * 8 * 8): means over an 8 x 8 grid of areas, from [0, 1] to [-1, 1].
  Tensor features(const Tensor& images) const override {
    return at::adaptive_avg_pool2d(images, {8, 8}).flatten(1) * 2 - 1;
  }
  std::string name() const override { return "pixels-8x8"; }
  std::string weights_hash() const override { return "none"; }
};

}  // namespace vggflow
