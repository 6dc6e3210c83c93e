#include "vggflow/models/lora_file.h"

#include <nlohmann/json.hpp>

#include "vggflow/core/error.h"
#include "vggflow/io/safetensors.h"

namespace vggflow {
namespace {

constexpr const char* kPrefix = "transformer.";
constexpr const char* kAdapterKey = "lora_adapter_metadata";

std::vector<std::pair<std::string, Tensor>> prefixed(const LoraSet& lora) {
  std::vector<std::pair<std::string, Tensor>> out;
  for (const NamedTensor& p : lora.parameters()) out.emplace_back(kPrefix + p.name, *p.tensor);
  return out;
}

}  // namespace

void save_lora(const std::filesystem::path& file, const LoraSet& lora, const LoraOptions& options,
               const std::map<std::string, std::string>& metadata) {
  auto header = metadata;
  header["format"] = "pt";
  header[kAdapterKey] = nlohmann::json{{"transformer.r", options.rank},
                                       {"transformer.lora_alpha", options.alpha},
                                       {"transformer.target_modules", lora.paths()}}.dump();
  header["vggflow.lora"] = nlohmann::json{{"rank", options.rank}, {"alpha", options.alpha}, {"targets", options.targets}}.dump();
  const auto tensors = prefixed(lora);
  write_safetensors(file, tensors, header);
  const SafetensorsFile back(file);
  for (const auto& [name, tensor] : tensors) {
    VGGFLOW_CHECK(at::equal(back.load(name), tensor.detach()), "[lora_file] {} does not read back as written: '{}' differs", file.string(), name);
  }
}

LoraOptions read_lora_options(const std::filesystem::path& file) {
  const SafetensorsFile in(file);
  const auto found = in.metadata().find("vggflow.lora");
  VGGFLOW_CHECK(found != in.metadata().end(), "[lora_file] {} has no 'vggflow.lora' metadata: expected a LoRA that vggflow wrote",
                file.string());
  const auto json = nlohmann::json::parse(found->second);
  return {json.at("rank").get<int64_t>(), json.at("alpha").get<double>(), json.at("targets").get<std::vector<std::string>>()};
}

void load_lora(const std::filesystem::path& file, LoraSet& lora) { load_into(SafetensorsFile(file), prefixed(lora)); }

}  // namespace vggflow
