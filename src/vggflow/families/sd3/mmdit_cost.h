#pragma once
// What one pass through an MMDiT costs, from its sizes alone. The byte counts follow what the
// operations of ops/ save for the backward pass, in the order of the network's own forward
// functions; network_cost_test holds them against an allocator's count of real networks.

#include "vggflow/families/sd3/mmdit_options.h"
#include "vggflow/nn/pass_cost.h"

namespace vggflow {

/// How an MMDiT is called.
struct MmditCall {
  int64_t image_tokens = 0, text_tokens = 0;
  int64_t bytes = 4;            ///< of a number in the matrix products
  int64_t rank = 0;             ///< of adapters on the image stream's projections, 0: off or merged
  bool input_gradient = false;  ///< x asks for a gradient
  bool trained = false;         ///< every weight asks for a gradient
  bool checkpointing = false;
  bool batched = true;  ///< several rows in one call: the attention's halves are no longer
                        ///< contiguous, and adapters keep copies of them
};

/// Whether blocks run in one call each on this machine's CPU (ops/joint_block.h). Asked of every
/// device: on a GPU so narrow a network's bytes do not count.
bool runs_at_once(const MmditOptions& options, const MmditCall& call);
/// Numbers of the position grid, a table in the file and no parameter.
double mmdit_grid(const MmditOptions& options);
PassCost mmdit_cost(const MmditOptions& options, const MmditCall& call);
/// The same for a pass through pairs (value, tangent), whose attention keeps short sequences' whole
/// matrices and does long ones in tiles;
/// `graph` and `backward` are for `trained`.
PassCost mmdit_tangent_cost(const MmditOptions& options, const MmditCall& call);

}  // namespace vggflow
