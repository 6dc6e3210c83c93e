#include "vggflow/networks/vision/dreamsim.h"

#include <ATen/ATen.h>

#include <array>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "vggflow/core/error.h"
#include "vggflow/io/finite.h"
#include "vggflow/io/model_files.h"
#include "vggflow/nn/lora.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;

template <TensorLike T>
T class_token(const T& tokens) {
  return ops::reshape(ops::narrow(tokens, 1, 0, 1),
                      {primal(tokens).size(0), primal(tokens).size(2)});  // (B, D)
}

template <TensorLike T>
T standardize(const T& images, const std::array<double, 3>& mean,
              const std::array<double, 3>& deviation) {
  const auto channels = [&](const std::array<double, 3>& v) {
    return at::tensor(v, primal(images).options()).view({1, 3, 1, 1});
  };
  return (images + channels(mean) * -1) * channels(deviation).reciprocal();
}

// The package keeps two of its files below "state_dict".
TensorMap without_prefix(const TensorMap& tensors) {
  const std::string prefix = "state_dict.";
  TensorMap out;
  for (const auto& [name, tensor] : tensors)
    out[name.starts_with(prefix) ? name.substr(prefix.size()) : name] = tensor;
  return out;
}

void load_file(const fs::path& file, TensorList targets, Module& network) {
  VGGFLOW_CHECK(fs::exists(file),
                "[dreamsim] {} does not exist: expected the folder in which the dreamsim package "
                "keeps its downloads",
                file.string());
  for (const NamedTensor& p : network.parameters()) targets.emplace_back(p.name, *p.tensor);
  load_into(without_prefix(open_weights(file)), "[dreamsim] " + file.string(), targets);
}

double lora_alpha(const fs::path& config) {
  try {
    return read_json_file(config).at("lora_alpha").get<double>();
  } catch (const nlohmann::json::exception& e) {
    fail("[dreamsim] expected a number lora_alpha in {}, got: {}", config.string(), e.what());
  }
}

// The adapters by the path of their layer:
// "base_model.model.extractor_list.0.model.blocks.0.attn.qkv.lora_A.weight" and "lora_B".
std::vector<LoraLayer> read_adapters(const fs::path& folder) {
  const fs::path safe = folder / "adapter_model.safetensors",
                 file = fs::exists(safe) ? safe : folder / "adapter_model.bin";
  VGGFLOW_CHECK(fs::exists(file),
                "[dreamsim] {} holds neither adapter_model.safetensors nor adapter_model.bin",
                folder.string());
  const double alpha = lora_alpha(folder / "adapter_config.json");
  const std::string a_end = ".lora_A.weight", b_end = ".lora_B.weight", start = "extractor_list.";
  const TensorMap tensors = open_weights(file);
  std::vector<LoraLayer> adapters;
  for (const auto& [name, a] : tensors) {
    const size_t begin = name.find(start);
    VGGFLOW_CHECK(begin != std::string::npos && (name.ends_with(a_end) || name.ends_with(b_end)),
                  "[dreamsim] expected adapters of extractor_list in {}, got '{}'", file.string(),
                  name);
    if (name.ends_with(b_end)) continue;
    const auto b = tensors.find(name.substr(0, name.size() - a_end.size()) + b_end);
    VGGFLOW_CHECK(b != tensors.end() && a.dim() == 2,
                  "[dreamsim] expected a matrix '{}' with its lora_B in {}", name, file.string());
    std::string fault = weight_fault(a);
    if (fault.empty()) fault = weight_fault(b->second);
    VGGFLOW_CHECK(fault.empty(), "[dreamsim] {}: '{}' or its lora_B {}", file.string(), name,
                  fault);
    adapters.push_back({name.substr(begin, name.size() - a_end.size() - begin), a, b->second,
                        alpha / static_cast<double>(a.size(0))});
  }
  VGGFLOW_CHECK(2 * adapters.size() == tensors.size(),
                "[dreamsim] expected a lora_A for every lora_B in {}", file.string());
  return adapters;
}

}  // namespace

DreamSimClip::DreamSimClip(const VitOptions& options, int64_t projection)
    : model(options), proj(new_parameter({options.width, projection})) {
  add("model", model);
  add("proj", proj);
}

template <TensorLike T>
T DreamSimClip::embed(const T& images) const {
  const T token = class_token(model.forward(images));
  return ops::linear(token, proj.t().to(primal(token).scalar_type()), {});
}
template Tensor DreamSimClip::embed(const Tensor&) const;
template Dual DreamSimClip::embed(const Dual&) const;

// The paths of the package's modules, by which the adapters name their layers.
DreamSim::DreamSim(const DreamSimOptions& o)
    : options(o), dino(o.dino), clip(o.clip, o.projection), open_clip(o.open_clip, o.projection) {
  add("extractor_list.0.model", dino);
  add("extractor_list.1", clip);
  add("extractor_list.2", open_clip);
}

std::unique_ptr<DreamSim> DreamSim::load(const fs::path& folder, const DreamSimOptions& options) {
  auto network = std::make_unique<DreamSim>(options);
  load_file(folder / "checkpoints/dino_vitbase16_pretrain.pth", {}, network->dino);
  load_file(folder / "clip_vitb16_pretrain.pth.tar", {{"proj", network->clip.proj}},
            network->clip.model);
  load_file(folder / "open_clip_vitb16_pretrain.pth.tar", {{"proj", network->open_clip.proj}},
            network->open_clip.model);
  LoraSet adapters(*network, read_adapters(folder / "ensemble_lora"));
  adapters.bake();
  network->set_requires_grad(false);
  return network;
}

template <TensorLike T>
T DreamSim::embed(const T& images) const {
  const T for_dino =
      standardize(images, {0.485, 0.456, 0.406}, {0.229, 0.224, 0.225});  // ImageNet's
  const T for_clip = standardize(images, {0.48145466, 0.4578275, 0.40821073},
                                 {0.26862954, 0.26130258, 0.27577711});
  const T joined = ops::cat(std::vector<T>{class_token(dino.tokens(for_dino)), clip.embed(for_clip),
                                           open_clip.embed(for_clip)},
                            1);
  return ops::l2_normalize(joined - ops::mean(joined, {1}, /*keepdim=*/true));
}
template Tensor DreamSim::embed(const Tensor&) const;
template Dual DreamSim::embed(const Dual&) const;

}  // namespace vggflow
