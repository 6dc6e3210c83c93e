#include "vggflow/weights/lora_file.h"

#include <nlohmann/json.hpp>

#include "vggflow/core/json.h"

namespace vggflow {

void save_lora(const LoraNames& names, const std::filesystem::path& file, const LoraSet& lora,
               const LoraOptions& options, const std::map<std::string, std::string>& metadata) {
  auto header = metadata;
  header["vggflow.trained_as"] = json_text(nlohmann::json{
      {"rank", options.rank}, {"alpha", options.alpha}, {"targets", options.targets}});
  write_lora(names, file, lora.adapters(), LoraLayout::kDiffusers, at::kFloat, header);
}

}  // namespace vggflow
