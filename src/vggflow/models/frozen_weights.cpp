#include "vggflow/models/frozen_weights.h"

namespace vggflow {

void adopt_weights(const std::vector<NamedTensor>& targets, const ComponentWeights& weights, at::ScalarType dtype) {
  TensorList list;
  for (const NamedTensor& target : targets) list.emplace_back(target.name, *target.tensor);
  expect_fit(weights.tensors, weights.origin, list);
  for (const NamedTensor& target : targets) *target.tensor = weights.tensors.at(target.name).to(dtype);
}

}  // namespace vggflow
