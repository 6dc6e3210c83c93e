#include "vggflow/families/network_cost.h"

#include "vggflow/families/sd3/mmdit_sizes.h"

namespace vggflow {

bool runs_at_once(const NetworkSizes& network, const NetworkCall& call) {
  return mmdit_runs_at_once(network, call);
}

}  // namespace vggflow
