#pragma once
// The sizes of an MMDiT, and of what makes images of its latents, as plans ask for them.

#include <vector>

#include "vggflow/families/sd3/mmdit_options.h"
#include "vggflow/flow/model_shape.h"

namespace vggflow {

/// What a model's shape has from its network: states, conditioning, sizes and costs.
ModelShape mmdit_shape(const MmditOptions& options, const std::vector<int64_t>& state,
                       int64_t text_tokens);

/// Whether a network is an MMDiT whose blocks run in one call each on this machine's CPU where it
/// is called so.
bool mmdit_runs_at_once(const NetworkSizes& network, const NetworkCall& call);

/// TAESD3 on latents of h x w.
DecoderSizes taesd3_sizes(int64_t channels, int64_t h, int64_t w, bool checkpointing);

}  // namespace vggflow
