#pragma once

#include <ATen/ops/linalg_vector_norm.h>

#include "vggflow/ops/functional.h"

namespace vggflow {

/// |x_i| of every row, (B), of x (B, ...).
inline Tensor row_norms(const Tensor& x) { return at::linalg_vector_norm(x.flatten(1), 2, {1}); }

}  // namespace vggflow
