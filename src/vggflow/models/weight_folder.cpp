#include "vggflow/models/weight_folder.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "vggflow/core/error.h"
#include "vggflow/io/files.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;

nlohmann::json read_json(const fs::path& file) {
  VGGFLOW_CHECK(fs::is_regular_file(file), "[model folder] {} does not exist: the model folder is incomplete, copy the file there", file.string());
  try {
    return nlohmann::json::parse(read_text(file));
  } catch (const nlohmann::json::exception& e) {
    fail("[model folder] expected JSON in {}, got: {}", file.string(), e.what());
  }
}

// The shards of an index, each once.
std::set<std::string> shards_of(const fs::path& index) {
  const auto json = read_json(index);
  VGGFLOW_CHECK(json.is_object() && json.contains("weight_map") && json["weight_map"].is_object() && !json["weight_map"].empty(),
                "[model folder] expected a weight_map in {}", index.string());
  std::set<std::string> shards;
  for (const auto& [name, shard] : json["weight_map"].items()) {
    VGGFLOW_CHECK(shard.is_string() && fs::path(shard.get<std::string>()).filename() == shard.get<std::string>(),
                  "[model folder] expected the name of a file beside {} for '{}', got {}", index.string(), name, shard.dump());
    shards.insert(shard.get<std::string>());
  }
  return shards;
}

std::set<std::string> weight_files(const fs::path& folder) {
  for (const char* variant : {"", ".fp16"}) {
    const auto single = fmt::format("model{}.safetensors", variant), index = fmt::format("model.safetensors.index{}.json", variant);
    if (fs::exists(folder / single)) return {single};
    if (fs::exists(folder / index)) return shards_of(folder / index);
  }
  fail("[model folder] expected model.safetensors or model.safetensors.index.json (or their fp16 form) in {}: copy the weights there",
       folder.string());
}

}  // namespace

WeightFolder::WeightFolder(const fs::path& folder) : folder_(folder) {
  std::set<std::string> seen;
  for (const std::string& file : weight_files(folder)) {
    files_.push_back(std::make_unique<SafetensorsFile>(folder / file));
    for (const auto& [name, entry] : files_.back()->tensors()) {
      VGGFLOW_CHECK(seen.insert(name).second, "[model folder] '{}' is in two shards of {}", name, folder.string());
    }
  }
}

const SafetensorsFile* WeightFolder::find(const std::string& name) const {
  const auto file = std::ranges::find_if(files_, [&](const auto& f) { return f->contains(name); });
  return file == files_.end() ? nullptr : file->get();
}

Tensor WeightFolder::load(const std::string& name) const {
  const SafetensorsFile* file = find(name);
  VGGFLOW_CHECK(file, "[model folder] the weights in {} lack '{}': they belong to another model than config.json tells of", folder_.string(), name);
  return file->load(name);
}

std::set<std::string> WeightFolder::names() const {
  std::set<std::string> all;
  for (const auto& file : files_) {
    for (const auto& [name, entry] : file->tensors()) all.insert(name);
  }
  return all;
}

void WeightFolder::expect_all_used(const Module& model, const std::set<std::string>& known) const {
  std::set<std::string> left = names();
  for (const NamedTensor& p : model.parameters()) left.erase(p.name);
  for (const std::string& name : known) left.erase(name);
  VGGFLOW_CHECK(left.empty(), "[model folder] {} holds weights that the model of its config.json has not: {}", folder_.string(),
                fmt::join(left, ", "));
}

uint64_t WeightFolder::fingerprint() const {
  constexpr uint64_t kSample = 1024;
  uint64_t hash = fnv1a(nullptr, 0);
  for (const std::string& name : names()) {
    const SafetensorsFile* file = find(name);
    const TensorEntry& entry = file->tensors().at(name);
    const auto head = fmt::format("{} {} {}\n", name, c10::toString(entry.dtype), fmt::join(entry.shape, " "));
    hash = fnv1a(head.data(), head.size(), hash);
    const std::string_view bytes = file->bytes(name);
    hash = fnv1a(bytes.data(), std::min<uint64_t>(bytes.size(), kSample), hash);
  }
  return hash;
}

void fill_parameters(Module& module, const std::string& prefix, const WeightSource& source) {
  for (const NamedTensor& p : module.parameters(prefix)) {
    Tensor value = source(p.name);
    VGGFLOW_CHECK(value.sizes() == p.tensor->sizes(), "[model folder] expected '{}' of shape {}, got {}", p.name, shape_string(*p.tensor),
                  shape_string(value));
    *p.tensor = std::move(value);
  }
}

nlohmann::json read_model_config(const fs::path& folder) { return read_json(folder / "config.json"); }

uint64_t fnv1a(const void* data, size_t size, uint64_t seed) {
  uint64_t hash = seed;
  for (size_t i = 0; i < size; ++i) hash = (hash ^ static_cast<const uint8_t*>(data)[i]) * 0x100000001B3;
  return hash;
}

}  // namespace vggflow
