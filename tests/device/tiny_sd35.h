#pragma once
// A tiny Stable Diffusion 3.5: the tiny Stable Diffusion 3 of the test data with a transformer that
// normalises queries and keys and has a second attention in its first block, or with `changes` of
// its configuration. Weights are random.

#include <ATen/ATen.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "vggflow/families/sd3/mmdit.h"
#include "vggflow/io/model_files.h"
#include "vggflow/io/safetensors.h"
#include "vggflow/ops/random_tensor.h"
#include "vggflow/testing/reference.h"

namespace vggflow::testing {

inline void write_sd35(const std::filesystem::path& folder, int64_t layers = 2,
                       const nlohmann::json& changes = nlohmann::json::object(),
                       double scale = 0.2) {
  namespace fs = std::filesystem;
  fs::copy(models_testdata("sd3_tiny"), folder, fs::copy_options::recursive);
  const fs::path transformer = folder / "transformer";
  nlohmann::json config = read_model_config(transformer);
  config["num_layers"] = layers;
  config["qk_norm"] = "rms_norm";
  config["dual_attention_layers"] = {0};
  config.update(changes);
  std::ofstream(transformer / "config.json") << config;
  Mmdit net(mmdit_options_from_json(config));
  TensorList tensors = net.checkpoint_tensors();
  uint64_t id = 0;
  for (auto& [name, tensor] : tensors)
    tensor = scale * keyed_normal(4, Purpose::kTest, 0, id++, 1, tensor.sizes()).squeeze(0);
  write_safetensors(transformer / "diffusion_pytorch_model.safetensors", tensors);
}

}  // namespace vggflow::testing
