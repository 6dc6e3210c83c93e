#pragma once
// What weights must be: floating point and finite.

#include <ATen/core/Tensor.h>

#include <string>

namespace vggflow {

/// Whether every number of `x` is finite; true for integers. Reads each byte once, at the memory's
/// pace, without a copy of a dense CPU tensor of 16, 32 or 64 bits.
bool all_finite(const at::Tensor& x);

/// What is wrong with `x` as weights, to go behind its name: "has dtype Long, expected floating
/// point", "holds numbers that are not finite"; empty where nothing is.
std::string weight_fault(const at::Tensor& x);

/// Throws where pixels hold a number that is not finite.
void require_finite_image(const at::Tensor& pixels);

}  // namespace vggflow
