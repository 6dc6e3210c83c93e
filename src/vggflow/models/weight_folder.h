#pragma once
// A component's folder of a diffusers model: config.json and the weights, in one safetensors file or in shards with an index. Large
// frozen networks are filled part by part while they are built, so that no second copy of them is ever held.

#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>
#include <vector>

#include "vggflow/io/safetensors.h"
#include "vggflow/nn/module.h"

namespace vggflow {

/// Gives the tensor that a parameter of this name starts with.
using WeightSource = std::function<Tensor(const std::string& name)>;

class WeightFolder {
 public:
  /// Opens model.safetensors, the shards that model.safetensors.index.json lists, or the fp16 form of either. Throws for a folder
  /// without any of them, a shard that is absent and a name in two shards.
  explicit WeightFolder(const std::filesystem::path& folder);

  /// A copy of one tensor.
  Tensor load(const std::string& name) const;
  std::set<std::string> names() const;
  /// Throws, listing them, for weights that `model` has no parameter for; `known` are harmless ones.
  void expect_all_used(const Module& model, const std::set<std::string>& known) const;
  /// A 64-bit hash of names, dtypes and shapes and of the first kilobyte of each tensor: other weights, another number. It is quick,
  /// because it reads little of the file.
  uint64_t fingerprint() const;

 private:
  const SafetensorsFile* find(const std::string& name) const;
  std::filesystem::path folder_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
};

/// Sets every parameter of `module`, whose path is `prefix`, to the source's tensor of its name, in that tensor's dtype.
void fill_parameters(Module& module, const std::string& prefix, const WeightSource& source);

/// The JSON of folder/config.json.
nlohmann::json read_model_config(const std::filesystem::path& folder);

/// FNV-1a, continued from `seed`: a hash that files may keep.
uint64_t fnv1a(const void* data, size_t size, uint64_t seed = 0xCBF29CE484222325);

}  // namespace vggflow
