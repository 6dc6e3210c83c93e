#include "vggflow/weights/frozen_weights.h"

#include "vggflow/device/device.h"

namespace vggflow {

void adopt_weights(const std::vector<NamedTensor>& targets, const ComponentWeights& weights,
                   at::ScalarType dtype, const std::set<std::string>& unused) {
  TensorList list;
  for (const NamedTensor& target : targets) list.emplace_back(target.name, *target.tensor);
  TensorMap tensors = weights.tensors;
  for (const std::string& name : unused) tensors.erase(name);
  expect_fit(tensors, weights.origin, list);
  for (const NamedTensor& target : targets)
    *target.tensor = tensors.at(target.name).to(current_device(), dtype);
}

}  // namespace vggflow
