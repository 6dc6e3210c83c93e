#pragma once
// What is known of a network's cost beside its numbers (flow/model_shape.h).

#include "vggflow/flow/model_shape.h"

namespace vggflow {

/// Whether blocks run in one call each on this machine's CPU (ops/joint_block.h) where a network is
/// called so: a pass then makes few tensors, alike from block to block.
bool runs_at_once(const NetworkSizes& network, const NetworkCall& call);

}  // namespace vggflow
