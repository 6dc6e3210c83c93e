#include "vggflow/networks/model_folder.h"

#include <utility>
#include <vector>

#include "vggflow/io/content_hash.h"
#include "vggflow/io/files.h"
#include "vggflow/io/safetensors.h"

namespace vggflow {

void load_weights(Module& model, const std::filesystem::path& folder) {
  std::vector<std::pair<std::string, Tensor>> targets;
  for (const NamedTensor& p : model.parameters()) targets.emplace_back(p.name, *p.tensor);
  load_into(SafetensorsFile(folder / "model.safetensors"), targets);
  model.set_requires_grad(false);
}

void save_model(Module& model, const Fields& config, const std::optional<Vocabulary>& vocabulary,
                const std::filesystem::path& folder,
                const std::map<std::string, std::string>& metadata, at::ScalarType dtype) {
  TensorList tensors;
  for (const NamedTensor& p : model.parameters())
    tensors.emplace_back(p.name, p.tensor->detach().to(dtype));
  make_writable_folder(folder);
  write_text(folder / "config.yaml", to_yaml(config));
  if (vocabulary) write_text(folder / "vocabulary.txt", vocabulary->serialize());
  write_safetensors(folder / "model.safetensors", tensors, metadata);
}

std::string weights_hash(const Module& model) {
  TensorMap tensors;
  for (const NamedTensor& p : model.parameters()) tensors[p.name] = *p.tensor;
  return content_hash(tensors);
}

void init_layers(Module& model, uint64_t seed) {
  uint64_t index = 0;
  for (auto& [path, module] : model.modules()) {
    RandomStream random({seed, Purpose::kInit, 0, index++});
    if (auto* layer = dynamic_cast<Linear*>(module)) layer->init(random);
    if (auto* layer = dynamic_cast<Conv2d*>(module)) layer->init(random);
  }
}

}  // namespace vggflow
