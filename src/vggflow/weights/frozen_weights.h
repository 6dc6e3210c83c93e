#pragma once
// Weights of large frozen networks: the network takes the file's own memory instead of a copy.

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "vggflow/io/model_files.h"
#include "vggflow/nn/module.h"

namespace vggflow {

/// Sets each target to the tensor of its name on the current device: a view of the mapped file
/// where that is the CPU and the file has `dtype` already, else a copy, made one tensor at a time.
/// Every missing, unexpected and misshaped tensor is listed in one error, and then nothing is
/// changed. `unused` are names that some files hold besides and the network has no use for.
void adopt_weights(const std::vector<NamedTensor>& targets, const ComponentWeights& weights,
                   at::ScalarType dtype, const std::set<std::string>& unused = {});

/// Network(options) with these weights in `dtype`. It is made without memory for its parameters, so
/// what is held is the weights, once.
template <class Network, class Options>
std::unique_ptr<Network> load_frozen(const Options& options, const ComponentWeights& weights,
                                     at::ScalarType dtype,
                                     const std::set<std::string>& unused = {}) {
  auto network = [&] {
    const ShapesOnly guard;
    return std::make_unique<Network>(options);
  }();
  adopt_weights(network->parameters(), weights, dtype, unused);
  return network;
}

}  // namespace vggflow
