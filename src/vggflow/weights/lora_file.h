#pragma once
// The trainer's LoRA files: diffusers' layout from a LoraSet. Layouts, checks and reading are
// lora_formats.h's.

#include <filesystem>
#include <map>
#include <string>

#include "vggflow/nn/lora.h"
#include "vggflow/weights/lora_formats.h"

namespace vggflow {

/// Writes the adapters of `lora` in diffusers' layout, fp32, with alpha = rank (the scale goes into
/// B) and checks the file by reading it back. The header's vggflow.trained_as tells `options`.
void save_lora(const LoraNames& names, const std::filesystem::path& file, const LoraSet& lora,
               const LoraOptions& options, const std::map<std::string, std::string>& metadata);

}  // namespace vggflow
