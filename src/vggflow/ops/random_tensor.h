#pragma once
// Tensors of keyed random numbers.

#include "vggflow/core/random.h"
#include "vggflow/ops/dual.h"

namespace vggflow {

/// N(0, 1) numbers (count, *shape), fp32 on the CPU: row i is the stream of (seed, purpose, update,
/// first_sample + i), so a sample's noise does not depend on the batch it is drawn in.
Tensor keyed_normal(uint64_t seed, Purpose purpose, uint64_t update, uint64_t first_sample,
                    int64_t count, at::IntArrayRef shape);

}  // namespace vggflow
