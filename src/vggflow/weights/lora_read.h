#pragma once
// Reads LoRA files of any layout into adapters by diffusers' paths.

#include <filesystem>

#include "vggflow/weights/lora_formats.h"

namespace vggflow {

/// As read_lora, but adapters of text encoders, which are not adapted here, are left out and listed
/// in the log.
LoraFile read_lora_of_transformer(const std::filesystem::path& path);

}  // namespace vggflow
