#pragma once
// Linear maps whose weights may be narrower than their input.

#include "vggflow/ops/functional.h"
#include "vggflow/ops/pair.h"

namespace vggflow::ops {

/// x in `dtype`; undefined where x is, as a bias may be.
Tensor cast(const Tensor& x, at::ScalarType dtype);

/// Whether cast_linear multiplies by the weight as it lies: rows x (B, D) in fp32 of a device with
/// fused kernels, a frozen weight in bf16.
bool multiplies_as_it_lies(const Tensor& x, const Tensor& weight);

/// x W^T + b in x's dtype, weight (M, D), bias (M) or undefined. Where multiplies_as_it_lies, each
/// number of x is the sum of three of bf16, exactly, and the three products are summed in fp32: the
/// error is that of fp32, and no fp32 copy of the weight is made. Else the weight is cast.
Tensor cast_linear(const Tensor& x, const Tensor& weight, const Tensor& bias);
Dual cast_linear(const Dual& x, const Tensor& weight, const Tensor& bias);
Pair cast_linear(const Pair& x, const Tensor& weight, const Tensor& bias);

}  // namespace vggflow::ops
