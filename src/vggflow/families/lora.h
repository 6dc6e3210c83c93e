#pragma once
// LoRA files (weights/lora_formats.h) by the names of every family of this program.

#include <filesystem>
#include <string>
#include <vector>

#include "vggflow/weights/lora_file.h"
#include "vggflow/weights/lora_formats.h"
#include "vggflow/weights/lora_names.h"

namespace vggflow {

/// The tables of families(), in their order.
LoraNames lora_names();

LoraFile read_lora(const std::filesystem::path& path, TextAdapters text = TextAdapters::kRefuse);
LoadBack write_lora(const std::filesystem::path& path, const std::vector<LoraLayer>& layers,
                    LoraLayout layout, at::ScalarType dtype, const Metadata& metadata = {},
                    const Denoiser& denoiser = {});
void save_lora(const std::filesystem::path& file, const LoraSet& lora, const LoraOptions& options,
               const Metadata& metadata);

}  // namespace vggflow
