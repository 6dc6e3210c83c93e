#pragma once
// LoRA files in diffusers' layout: "transformer.<path>.lora_A.weight" and ".lora_B.weight", with rank, alpha and targets in the
// header entry lora_adapter_metadata, which diffusers reads.

#include <filesystem>
#include <map>
#include <string>

#include "vggflow/nn/lora.h"

namespace vggflow {

/// Writes adapters (from `lora.parameters()`) and checks the file by reading it back: same tensors, and at least one B that is
/// not zero unless the adapter is fresh.
void save_lora(const std::filesystem::path& file, const LoraSet& lora, const LoraOptions& options,
               const std::map<std::string, std::string>& metadata);

/// The rank, alpha and targets that a file was trained with.
LoraOptions read_lora_options(const std::filesystem::path& file);

/// Copies a file's tensors into an attached set; every tensor must fit.
void load_lora(const std::filesystem::path& file, LoraSet& lora);

}  // namespace vggflow
