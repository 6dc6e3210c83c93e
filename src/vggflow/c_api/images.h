#pragma once
// Images in a caller's memory, as tensors.

#include <ATen/core/Tensor.h>

#include "vggflow/c_api.h"

namespace vggflow::c_api {

/// Throws for NULL, sides or counts below one, and layouts that there are none of.
void check_images(const vggflow_images* images);

/// A copy (N, 3, H, W), fp32 on the CPU in [0, 1]. Throws for floats that are not finite or lie
/// outside.
at::Tensor to_tensor(const vggflow_images& images);

/// Writes images (n, 3, H, W) in [0, 1], values outside clipped, to the places from `first` on.
void write_images(const at::Tensor& from, int64_t first, const vggflow_images& to);

}  // namespace vggflow::c_api
