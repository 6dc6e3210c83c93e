#include "vggflow/io/model_files.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <system_error>

#include "vggflow/core/error.h"
#include "vggflow/core/foreign_file.h"
#include "vggflow/core/hash.h"
#include "vggflow/core/json.h"
#include "vggflow/core/listing.h"
#include "vggflow/core/log.h"
#include "vggflow/core/shipped_files.h"
#include "vggflow/io/files.h"
#include "vggflow/io/hub_cache.h"
#include "vggflow/io/weights_file.h"

namespace vggflow {
namespace fs = std::filesystem;
using Json = nlohmann::json;

Json read_json_file(const fs::path& file) {
  const std::string text = read_text(file);
  refuse_foreign(text, fmt::format("[model_files] {}", file.string()));
  return parse_json<Json>(text, file.string());
}

Json read_model_config(const fs::path& folder) {
  const fs::path file = folder / "config.json";
  VGGFLOW_CHECK(
      fs::is_regular_file(file),
      "[model_files] {} does not exist: the model folder is incomplete, copy the file there",
      file.string());
  Json config = read_json_file(file);
  if (config.is_object() && config.contains("quantization_config")) {
    const Json& how = config["quantization_config"];
    fail(
        "[model_files] {}: the weights are quantised ({}), which are not read: get the model's "
        "plain weights, fp16, bf16 or fp32",
        file.string(),
        how.is_object() && how.contains("quant_method") ? how["quant_method"].dump() : how.dump());
  }
  return config;
}

// ---- the Hugging Face cache
// ----------------------------------------------------------------------------------------------

bool is_repo_id(const std::string& id) {
  const auto plain = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '-' ||
           c == '/';
  };
  const size_t slash = id.find('/');
  return std::all_of(id.begin(), id.end(), plain) && slash != std::string::npos && slash > 0 &&
         slash + 1 < id.size() && id.find('/', slash + 1) == std::string::npos &&
         !id.starts_with('.') && id[slash + 1] != '.';
}

namespace {

// Where the cache keeps a repository, there or not.
fs::path cached_repo(const std::string& id) {
  std::string folder = "models--" + id;
  folder.replace(folder.find('/'), 1, "--");
  return hub_cache() / folder;
}

}  // namespace

bool is_on_this_machine(const std::string& path_or_id) {
  return fs::exists(path_or_id) || (is_repo_id(path_or_id) && fs::exists(cached_repo(path_or_id)));
}

namespace {

std::string trimmed(std::string text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.pop_back();
  return text;
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

// cache/models--org--name/{refs/<revision>, snapshots/<commit>/}
fs::path snapshot_of(const fs::path& repo, const std::string& revision) {
  VGGFLOW_CHECK(
      !revision.empty() && revision.find("..") == std::string::npos && !revision.starts_with('/'),
      "[model_files] '{}' is no revision: expected a branch, a tag or a commit", revision);
  const fs::path ref = repo / "refs" / revision;
  const std::string commit = fs::is_regular_file(ref) ? trimmed(read_text(ref)) : revision;
  const fs::path snapshot = repo / "snapshots" / commit;
  VGGFLOW_CHECK(!commit.empty() && commit.find('/') == std::string::npos && commit != ".." &&
                    fs::is_directory(snapshot),
                "[model_files] {} has no snapshot of revision '{}': looked for {} and {}; there "
                "are the refs [{}] and the snapshots [{}]",
                repo.string(), revision, ref.string(), snapshot.string(),
                examples_of(names_in(repo / "refs"), ", "),
                examples_of(names_in(repo / "snapshots"), ", "));
  return snapshot;
}

}  // namespace

fs::path resolve_model(const std::string& path_or_id, const std::string& revision) {
  if (fs::is_directory(path_or_id)) {
    const fs::path folder = path_or_id;
    return fs::is_directory(folder / "snapshots") ? snapshot_of(folder, revision) : folder;
  }
  VGGFLOW_CHECK(is_repo_id(path_or_id),
                "[model_files] '{}' is no folder and no repository id (org/name); check the path",
                path_or_id);
  const fs::path repo = cached_repo(path_or_id);
  VGGFLOW_CHECK(fs::is_directory(repo) || !path_or_id.starts_with("models/"),
                "[model_files] '{}' is no folder: looked for {}. The models of this name come with "
                "vggflow's own checkout: start there, or give the path of the folder",
                path_or_id, places_of(path_or_id));
  VGGFLOW_CHECK(fs::is_directory(repo),
                "[model_files] '{}' is neither a folder nor in the Hugging Face cache: looked for "
                "{} and {} (set HF_HUB_CACHE or HF_HOME if the cache "
                "is elsewhere). vggflow downloads nothing: get the model first, for example with "
                "'hf download {}', or give the path of its folder",
                path_or_id, repo.string(), places_of(path_or_id), path_or_id);
  return snapshot_of(repo, revision);
}

// ---- model_index.json
// ------------------------------------------------------------------------------------------------

bool ModelIndex::has(const std::string& component) const {
  const auto found = components.find(component);
  return found != components.end() && found->second.present;
}

fs::path ModelIndex::at(const std::string& component) const {
  std::vector<std::string> present;
  for (const auto& [name, c] : components) {
    if (c.present) present.push_back(name);
  }
  VGGFLOW_CHECK(has(component), "[model_files] {} has no component '{}'; it has {}",
                folder.string(), component, examples_of(present, ", "));
  return folder / component;
}

ModelIndex read_model_index(const fs::path& folder) {
  const fs::path file = folder / "model_index.json";
  VGGFLOW_CHECK(fs::exists(file),
                "[model_files] {} does not exist: expected a model folder in the diffusers layout",
                file.string());
  const Json json = read_json_file(file);
  VGGFLOW_CHECK(json.is_object() && json.contains("_class_name") && json["_class_name"].is_string(),
                "[model_files] {}: expected an object with _class_name", file.string());
  static const std::set<std::string> kOptional{"text_encoder_3", "tokenizer_3"};
  ModelIndex index{folder, json["_class_name"], {}};
  std::vector<std::string> missing;
  for (const auto& [name, value] : json.items()) {
    // Besides components, which are [library, class], an index holds settings of the pipeline.
    if (name.starts_with('_') || !value.is_array() || value.size() != 2) continue;
    ModelComponent component;
    if (value[0].is_string() && value[1].is_string()) {
      component = {value[0], value[1], fs::is_directory(folder / name)};
      if (!component.present && !kOptional.contains(name)) missing.push_back(name);
    }
    index.components[name] = component;
  }
  VGGFLOW_CHECK(missing.empty(),
                "[model_files] {} lists the components {}, but {} has no such folders; the model "
                "is not complete, get it again",
                file.string(), examples_of(missing, ", "), folder.string());
  return index;
}

// ---- the weights of a component
// ----------------------------------------------------------------------------------------

namespace {

struct Kind {
  std::string base, ending;  // "diffusion_pytorch_model", ".safetensors"
};
const std::vector<Kind>& kinds() {
  static const std::vector<Kind> all{{"diffusion_pytorch_model", ".safetensors"},
                                     {"model", ".safetensors"},
                                     {"diffusion_pytorch_model", ".bin"},
                                     {"pytorch_model", ".bin"}};
  return all;
}

std::string single_name(const Kind& kind, const std::string& variant) {
  return kind.base + (variant.empty() ? "" : "." + variant) + kind.ending;
}
// Both spellings are in use: model.safetensors.index.fp16.json and
// model.fp16.safetensors.index.json.
std::vector<std::string> index_names(const Kind& kind, const std::string& variant) {
  if (variant.empty()) return {kind.base + kind.ending + ".index.json"};
  return {kind.base + kind.ending + ".index." + variant + ".json",
          kind.base + "." + variant + kind.ending + ".index.json"};
}

// What stands between `head` and `tail`, with its leading dot removed; "" where nothing does.
std::optional<std::string> between(const std::string& name, const std::string& head,
                                   const std::string& tail) {
  if (!name.starts_with(head) || !name.ends_with(tail) || name.size() < head.size() + tail.size())
    return std::nullopt;
  const std::string middle = name.substr(head.size(), name.size() - head.size() - tail.size());
  if (middle.empty()) return middle;
  return middle.starts_with('.') && middle.find('.', 1) == std::string::npos
             ? std::optional(middle.substr(1))
             : std::nullopt;
}

// A shard, as in model.fp16-00001-of-00002.safetensors: its index tells the variant.
bool is_shard(const std::string& variant) { return variant.find("-of-") != std::string::npos; }

std::string in_words(const std::set<std::string>& variants) {
  std::vector<std::string> names;
  for (const std::string& variant : variants) names.push_back(variant.empty() ? "(none)" : variant);
  return examples_of(names, ", ");
}

std::map<std::string, std::string> weight_map(const fs::path& index) {
  const Json json = read_json_file(index);
  VGGFLOW_CHECK(json.is_object() && json.contains("weight_map") && json["weight_map"].is_object() &&
                    !json["weight_map"].empty(),
                "[model_files] {}: expected an object with weight_map", index.string());
  std::map<std::string, std::string> map;
  for (const auto& [tensor, shard] : json["weight_map"].items()) {
    VGGFLOW_CHECK(shard.is_string() && shard.get<std::string>().find('/') == std::string::npos &&
                      shard != "..",
                  "[model_files] {}: the shard of '{}' is no file name", index.string(), tensor);
    map[tensor] = shard;
  }
  return map;
}

// Opens the shards that the index names and holds their tensors against it.
ComponentWeights open_sharded(const fs::path& folder, const fs::path& index) {
  const auto expected = weight_map(index);
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : expected) shards.insert(shard);
  ComponentWeights out{
      {}, {}, fmt::format("[model_files] {} ({} shards)", index.string(), shards.size())};
  std::vector<std::string> problems;
  std::set<std::string> missing;
  for (const std::string& shard : shards) {
    const fs::path file = folder / shard;
    if (!fs::exists(file)) {
      problems.push_back(fmt::format("the shard {} is missing", shard));
      missing.insert(shard);
      continue;
    }
    out.files.push_back(file);
    for (auto& [name, tensor] : open_weights(file)) {
      const auto known = expected.find(name);
      if (known == expected.end()) {
        problems.push_back(fmt::format("'{}' in {} is not in the index", name, shard));
      } else if (known->second != shard) {
        problems.push_back(
            fmt::format("'{}' is in {}, but the index says {}", name, shard, known->second));
      } else {
        out.tensors[name] = tensor;
      }
    }
  }
  for (const auto& [name, shard] : expected) {
    if (!out.tensors.contains(name) && !missing.contains(shard))
      problems.push_back(fmt::format("'{}' is not in {}", name, shard));
  }
  VGGFLOW_CHECK(problems.empty(),
                "[model_files] the files beside {} do not fit it, {}: {}. Get them again",
                index.string(), count_of(problems.size(), "fault"), examples_of(problems));
  return out;
}

}  // namespace

uint64_t fingerprint(const ComponentWeights& weights) {
  constexpr size_t kPieces = 64, kPiece = 256;
  uint64_t hash = kHashStart;
  for (const auto& [name, tensor] : weights.tensors) {
    hash = fnv1a(fmt::format("{} {} {}\n", name, c10::toString(tensor.scalar_type()),
                             fmt::join(tensor.sizes().vec(), " ")),
                 hash);
    const Tensor dense = tensor.contiguous();
    const std::string_view bytes(static_cast<const char*>(dense.const_data_ptr()), dense.nbytes());
    if (bytes.size() <= kPieces * kPiece) {
      hash = fnv1a(bytes, hash);
      continue;
    }
    for (size_t i = 0; i < kPieces; ++i)
      hash = fnv1a(bytes.substr((bytes.size() - kPiece) / (kPieces - 1) * i, kPiece), hash);
    hash = fnv1a(bytes.substr(bytes.size() - kPiece), hash);
  }
  return hash;
}

TensorMap open_weights(const fs::path& file) { return read_weights(file).tensors; }

std::set<std::string> variants_in(const fs::path& folder) {
  std::set<std::string> found;
  for (const std::string& name : names_in(folder)) {
    for (const Kind& kind : kinds()) {
      for (const auto& variant : {between(name, kind.base, kind.ending),
                                  between(name, kind.base, kind.ending + ".index.json"),
                                  between(name, kind.base + kind.ending + ".index", ".json")}) {
        if (variant && !is_shard(*variant)) found.insert(*variant);
      }
    }
  }
  return found;
}

bool has_component(const fs::path& folder) { return !variants_in(folder).empty(); }

std::string variant_to_open(const fs::path& folder, const std::string& wanted) {
  const auto there = variants_in(folder);
  if (there.empty() || there.contains(wanted)) return wanted;
  if (there.contains("")) return "";
  VGGFLOW_CHECK(wanted.empty(),
                "[model_files] {} has no weights of variant '{}' and no plain ones; it has the "
                "variants {}: pass one of them",
                folder.string(), wanted, in_words(there));
  VGGFLOW_CHECK(
      there.size() == 1,
      "[model_files] {} has no default weights, but several variants, {}: pass the one to "
      "take as variant",
      folder.string(), in_words(there));
  return *there.begin();
}

ComponentWeights open_component(const fs::path& folder, const std::string& wanted) {
  VGGFLOW_CHECK(
      fs::is_directory(folder),
      "[model_files] {} is no folder: expected a component of a model, such as transformer or vae",
      folder.string());
  const std::string variant = variant_to_open(folder, wanted);
  if (variant != wanted && variant.empty())
    log_info("{} has no weights of variant '{}': using the default files", folder.string(), wanted);
  if (variant != wanted && wanted.empty())
    log_info("{} has no default weights: using its only variant, '{}'", folder.string(), variant);
  std::vector<std::string> looked_for;
  for (const Kind& kind : kinds()) {
    const fs::path single = folder / single_name(kind, variant);
    // The cache holds links into its store of blobs.
    VGGFLOW_CHECK(fs::exists(single) || !fs::is_symlink(single),
                  "[model_files] {} is a link to {}, which is missing; the download is not "
                  "complete, get it again",
                  single.string(), fs::read_symlink(single).string());
    if (fs::exists(single))
      return {open_weights(single), {single}, "[model_files] " + single.string()};
    looked_for.push_back(single.filename().string());
    for (const std::string& name : index_names(kind, variant)) {
      if (fs::exists(folder / name)) return open_sharded(folder, folder / name);
      looked_for.push_back(name);
    }
  }
  fail("[model_files] {} holds no weights: looked for {}", folder.string(),
       fmt::join(looked_for, ", "));
}

}  // namespace vggflow
