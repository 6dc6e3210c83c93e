#pragma once
// A look at what a network does, to hold two sets of weights or adapters against one another.

#include <vector>

#include "vggflow/flow/flow_model.h"
#include "vggflow/nn/lora.h"

namespace vggflow {

/// The network's velocity (2, C, h, w) of a fixed random state, prompt and time, h and w at most
/// 32, with `adapters` merged into a view of it (none: as it is), in the network's dtype.
Tensor probe_velocity(const FlowNetwork& network, const std::vector<LoraLayer>& adapters = {});

}  // namespace vggflow
