#pragma once
// What a reward is besides that tells which weights it has: known scores of other weights are not held against it.

#include <string>

namespace vggflow {

class HashedWeights {
 public:
  virtual ~HashedWeights() = default;
  virtual std::string weights_hash() const = 0;  ///< content_hash
};

}  // namespace vggflow
