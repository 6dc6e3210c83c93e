#pragma once
// Weights of large frozen networks: the network takes the file's own memory instead of a copy.

#include <vector>

#include "vggflow/io/model_files.h"
#include "vggflow/nn/module.h"

namespace vggflow {

/// Sets each target to the tensor of its name: a view of the mapped file where that has `dtype` already, else a conversion, made one tensor at a
/// time. Every missing, unexpected and misshaped tensor is listed in one error, and then nothing is changed.
void adopt_weights(const std::vector<NamedTensor>& targets, const ComponentWeights& weights, at::ScalarType dtype);

}  // namespace vggflow
