#include "vggflow/models/lora_file.h"

#include <torch/csrc/autograd/grad_mode.h>

#include <nlohmann/json.hpp>

#include "vggflow/core/error.h"

namespace vggflow {

void save_lora(const std::filesystem::path& file, const LoraSet& lora, const LoraOptions& options,
               const std::map<std::string, std::string>& metadata) {
  auto header = metadata;
  header["vggflow.trained_as"] = nlohmann::json{{"rank", options.rank}, {"alpha", options.alpha}, {"targets", options.targets}}.dump();
  write_lora(file, lora.adapters(), LoraLayout::kDiffusers, at::kFloat, header);
}

LoraOptions read_lora_options(const std::filesystem::path& file) {
  const LoraFile lora = read_lora(file);
  const LoraLayer& first = lora.layers.front();
  LoraOptions options{first.rank(), first.scale * static_cast<double>(first.rank()), {}};
  for (const LoraLayer& layer : lora.layers) {
    VGGFLOW_CHECK(layer.rank() == first.rank() && layer.scale == first.scale,
                  "[lora_file] {}: expected one rank and scale for all layers, got rank {} and scale {} at '{}', rank {} and scale {} at '{}'", file.string(),
                  first.rank(), first.scale, first.path, layer.rank(), layer.scale, layer.path);
    options.targets.push_back(layer.path);
  }
  return options;
}

void load_lora(const std::filesystem::path& file, LoraSet& lora) {
  const LoraFile source = read_lora(file);
  std::map<std::string, const LoraLayer*> given;
  for (const LoraLayer& layer : source.layers) given[layer.path] = &layer;
  std::vector<std::string> problems;
  const auto adapters = lora.adapters();
  for (const LoraLayer& target : adapters) {
    const auto found = given.find(target.path);
    if (found == given.end()) {
      problems.push_back(fmt::format("missing '{}'", target.path));
    } else if (found->second->a.sizes() != target.a.sizes() || found->second->b.sizes() != target.b.sizes()) {
      problems.push_back(fmt::format("'{}' has rank {}, {} -> {}; expected rank {}, {} -> {}", target.path, found->second->rank(), found->second->a.size(1),
                                     found->second->b.size(0), target.rank(), target.a.size(1), target.b.size(0)));
    }
  }
  if (given.size() > adapters.size()) problems.push_back(fmt::format("it adapts {} layers, expected {}", given.size(), adapters.size()));
  VGGFLOW_CHECK(problems.empty(), "[lora_file] {} does not fit the adapters: {}", file.string(), fmt::join(problems, "; "));
  torch::autograd::AutoGradMode off(false);
  for (const LoraLayer& target : adapters) {
    Tensor a = target.a, b = target.b;  // the set's own storage
    a.copy_(given.at(target.path)->a);
    b.copy_(given.at(target.path)->b * (given.at(target.path)->scale / target.scale));
  }
}

}  // namespace vggflow
