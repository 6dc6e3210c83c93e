#pragma once
// The trainer's LoRA files: diffusers' layout from a LoraSet, and back into one. Layouts and checks are lora_formats.h's.

#include <filesystem>
#include <map>
#include <string>

#include "vggflow/models/lora_formats.h"
#include "vggflow/nn/lora.h"

namespace vggflow {

/// Writes the adapters of `lora` in diffusers' layout, fp32, with alpha = rank (the scale goes into B) and checks the file by
/// reading it back. The header's vggflow.trained_as tells `options`.
void save_lora(const std::filesystem::path& file, const LoraSet& lora, const LoraOptions& options,
               const std::map<std::string, std::string>& metadata);

/// Options of a set that holds a file's adapters: they must share one rank and one scale.
LoraOptions read_lora_options(const std::filesystem::path& file);

/// Copies a file's adapters (any layout) into an attached set of the same layers and ranks.
void load_lora(const std::filesystem::path& file, LoraSet& lora);

}  // namespace vggflow
