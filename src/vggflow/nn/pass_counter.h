#pragma once
// Counts what a network really ran: one for each sample and guidance branch of a forward pass, of
// the tangents that a forward-mode pass carries besides, and of a backward pass (two for a pair of
// value and tangent).

#include <concepts>
#include <memory>

#include "vggflow/ops/dual.h"

namespace vggflow {

struct PassCounter {
  double forward = 0, tangent = 0, backward = 0;
};

/// Counts the forward pass that gave `output` (B, ...), and its backward pass when that runs. Null
/// counts nothing.
template <TensorLike T>
T counted(const T& output, const std::shared_ptr<PassCounter>& counter) {
  if (!counter) return output;
  const auto rows = static_cast<double>(primal(output).size(0));
  counter->forward += rows;
  Tensor seed;
  double weight = rows;
  if constexpr (std::same_as<T, Dual>) {
    counter->tangent += rows;
    seed = output.tangent;
    weight = 2 * rows;
  } else {
    seed = output;
  }
  if (seed.requires_grad()) {
    seed.register_hook([counter, weight](const Tensor&) { counter->backward += weight; });
  }
  return output;
}

}  // namespace vggflow
