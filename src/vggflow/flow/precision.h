#pragma once
// The number format of frozen weights and matrix products.

#include <c10/core/ScalarType.h>

#include <string>

namespace vggflow {

/// bf16 where the current device multiplies it in hardware, else fp32.
at::ScalarType fast_dtype();
/// dtype of the setting "auto" (fast_dtype), "bf16" or "fp32".
at::ScalarType precision_dtype(const std::string& precision);

}  // namespace vggflow
