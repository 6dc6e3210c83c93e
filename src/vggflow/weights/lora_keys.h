#pragma once
// Names of the MMDiT's linear layers in diffusers' modules and in the original network that kohya's
// files follow.

#include <optional>
#include <string>
#include <vector>

#include "vggflow/ops/functional.h"

namespace vggflow {

/// Where a layer of diffusers' naming lies in the original network.
struct KohyaSlot {
  std::string name;    ///< "lora_unet_joint_blocks_0_x_block_attn_qkv"
  int part = 0;        ///< which of the fused projections
  int parts = 1;       ///< 3 for q, k, v
  bool swaps = false;  ///< a (scale, shift) modulation of two chunks is (shift, scale) there
};

/// The slot of "transformer_blocks.0.attn.to_q"; empty for what is no linear layer of the MMDiT.
std::optional<KohyaSlot> kohya_slot(const std::string& path);

/// The paths that share a kohya name, in the order of their parts; empty for an unknown name.
std::vector<std::string> paths_of_kohya(const std::string& name);

/// B of an adapter from one naming to the other: the halves trade places in a modulation of two
/// chunks (rows = 2 * columns of A).
Tensor swap_chunks(const KohyaSlot& slot, const Tensor& a, const Tensor& b);

}  // namespace vggflow
