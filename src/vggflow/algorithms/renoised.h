#pragma once
// States made by adding noise to end points: what methods train on that need no path.

#include "vggflow/algorithms/method.h"

namespace vggflow {

/// How t = 1 - s is spread: uniform, or s with density 2 s.
enum class NoiseLevels { kUniform, kHigh };

/// x_t = t x_1 + (1 - t) e, `draws` of each end point, sample by sample.
struct Renoised {
  States states;
  Tensor noise;  ///< (M, ...) e
  Tensor end;    ///< (M, ...) x_1
};

/// Of the end points x1 (B, ...) of the update's samples; those of `rows` alone are kept. One t
/// from each of `draws` parts of equal chance; it and e are keyed by (seed, update, sample).
Renoised renoise(const UpdateInput& input, const Tensor& x1, const Tensor& rows, int64_t draws,
                 NoiseLevels levels = NoiseLevels::kUniform);

}  // namespace vggflow
