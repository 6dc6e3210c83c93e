#pragma once
// A network whose features stand for images where sets of images are compared: diversity, Frechet
// distance, kernel distances.

#include <string>

#include "vggflow/ops/dual.h"

namespace vggflow {

class FeatureNetwork {
 public:
  virtual ~FeatureNetwork() = default;
  /// (B, F), fp32, of images (B, 3, H, W) in [0, 1] of any size; the network resizes and normalises
  /// as its reference does.
  virtual Tensor features(const Tensor& images) const = 0;
  /// What reports call it: "inception-v3", "clip-vit-b32".
  virtual std::string name() const = 0;
  /// Hash of the weights, in hexadecimal: figures of different weights must not be compared.
  virtual std::string weights_hash() const = 0;
};

}  // namespace vggflow
