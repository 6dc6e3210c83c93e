#pragma once
// The MMDiT's linear layers as diffusers and the original network call them.

#include "vggflow/weights/lora_names.h"

namespace vggflow {

/// Every linear layer of a block (i = 0 ... layers - 1, the second attention of dual blocks too)
/// and those outside the blocks.
LoraNameTable mmdit_lora_names();

}  // namespace vggflow
