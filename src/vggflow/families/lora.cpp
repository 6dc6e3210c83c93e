#include "vggflow/families/lora.h"

#include "vggflow/families/registry.h"

namespace vggflow {

LoraNames lora_names() {
  std::vector<LoraNameTable> tables;
  for (const Family& family : families()) {
    if (!family.lora_names.others.empty() || !family.lora_names.in_block.empty())
      tables.push_back(family.lora_names);
  }
  return LoraNames(std::move(tables));
}

LoraFile read_lora(const std::filesystem::path& path, TextAdapters text) {
  return read_lora(lora_names(), path, text);
}

LoadBack write_lora(const std::filesystem::path& path, const std::vector<LoraLayer>& layers,
                    LoraLayout layout, at::ScalarType dtype, const Metadata& metadata,
                    const Denoiser& denoiser) {
  return write_lora(lora_names(), path, layers, layout, dtype, metadata, denoiser);
}

void save_lora(const std::filesystem::path& file, const LoraSet& lora, const LoraOptions& options,
               const Metadata& metadata) {
  save_lora(lora_names(), file, lora, options, metadata);
}

}  // namespace vggflow
