#pragma once
// Reads LoRA files of any layout into adapters by diffusers' paths.

#include <filesystem>
#include <string>

#include "vggflow/weights/lora_formats.h"

namespace vggflow {

/// As read_lora, but adapters of text encoders, which are not adapted here, are left out and listed
/// in the log.
LoraFile read_lora_of_transformer(const LoraNames& names, const std::filesystem::path& path);

/// The one of the two that the option's word asks for: "refuse" or "skip" adapters of text
/// encoders.
LoraFile read_lora_as(const LoraNames& names, const std::filesystem::path& path,
                      const std::string& text_encoders);

}  // namespace vggflow
