#include "vggflow/flow/flow_model.h"

#include "vggflow/core/error.h"

namespace vggflow {

Pair FlowNetwork::velocity_pair(const Tensor&, const Tensor&, const Conditioning&) const {
  fail(
      "[flow_model] expected a network that carries its adapters' difference beside the base's "
      "velocity, got one that does not; ask computes_narrow() first");
}

}  // namespace vggflow
