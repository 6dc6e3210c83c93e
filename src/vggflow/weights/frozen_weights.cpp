#include "vggflow/weights/frozen_weights.h"

#include "vggflow/device/device.h"

namespace vggflow {

void adopt_weights(const std::vector<NamedTensor>& targets, const ComponentWeights& weights,
                   at::ScalarType dtype, const std::set<std::string>& unused,
                   const std::string& on_host) {
  TensorList list;
  for (const NamedTensor& target : targets) list.emplace_back(target.name, *target.tensor);
  TensorMap tensors = weights.tensors;
  for (const std::string& name : unused) tensors.erase(name);
  expect_fit(tensors, weights.origin, list);
  for (const NamedTensor& target : targets) {
    const bool stays = !on_host.empty() && target.name.starts_with(on_host);
    *target.tensor =
        tensors.at(target.name).to(stays ? at::Device(at::kCPU) : current_device(), dtype);
  }
}

}  // namespace vggflow
