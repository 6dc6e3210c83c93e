#pragma once
// Where the weights are: model folders in the diffusers layout and in the Hugging Face cache.
// Nothing is ever downloaded; an error names every place that was looked at.

#include <filesystem>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>
#include <vector>

#include "vggflow/io/safetensors.h"

namespace vggflow {

/// The folder of a model: a path is taken as it is (a `models--org--name` folder of the cache: its
/// snapshot), and "org/name" is looked up in the cache at $HF_HUB_CACHE, $HF_HOME/hub or
/// ~/.cache/huggingface/hub. `revision` is a branch, a tag or a commit.
std::filesystem::path resolve_model(const std::string& path_or_id,
                                    const std::string& revision = "main");

/// "org/name", each of letters, digits, '.', '_' and '-', and no part that is a way out of the
/// cache.
bool is_repo_id(const std::string& id);

/// Whether there is something at that path, or a folder of "org/name" in the cache: where not,
/// opening the model says what was looked for.
bool is_on_this_machine(const std::string& path_or_id);

/// A JSON file; an error that names it where it is absent or is no JSON.
nlohmann::json read_json_file(const std::filesystem::path& file);

/// folder/config.json, which describes a component.
nlohmann::json read_model_config(const std::filesystem::path& folder);

/// One line of a pipeline's model_index.json.
struct ModelComponent {
  std::string library, class_name;  ///< "diffusers", "AutoencoderKL"
  bool present = false;             ///< listed with a class, and its folder exists
};

/// model_index.json: which components a pipeline has.
struct ModelIndex {
  std::filesystem::path folder;
  std::string class_name;  ///< "StableDiffusion3Pipeline"
  std::map<std::string, ModelComponent> components;
  bool has(const std::string& component) const;
  /// The component's folder; an error that says what the index holds where it is absent.
  std::filesystem::path at(const std::string& component) const;
};

/// Every component that the index lists must have its folder, except text_encoder_3 and
/// tokenizer_3: SD3 runs without its 9.5 GB T5, and people delete it.
ModelIndex read_model_index(const std::filesystem::path& folder);

/// The weights of one component; the tensors view the files (mapped_file.h) and must not be written
/// to.
struct ComponentWeights {
  TensorMap tensors;
  std::vector<std::filesystem::path> files;
  std::string origin;  ///< for errors: the folder and what was opened
};

/// The variants ("fp16") for which a component's folder holds weights; "" stands for the plain
/// files.
std::set<std::string> variants_in(const std::filesystem::path& folder);

/// The variant that is taken where `wanted` is asked for, "" being the plain files: it itself,
/// else, as in diffusers, the plain files, else, where none was asked for, the only variant there
/// is. An error where that leaves a choice or nothing.
std::string variant_to_open(const std::filesystem::path& folder, const std::string& wanted);

/// Opens the weights in a component's folder. Looked for, in this order: diffusion_pytorch_model or
/// model (.safetensors), the same sharded
/// (.safetensors.index.json), then diffusion_pytorch_model or pytorch_model as torch pickles (.bin,
/// .bin.index.json). Of the variants ("fp16") variant_to_open tells the one to take; another than
/// asked for is logged. Shards are held against the index: missing shards, tensors in the wrong
/// shard and tensors that the index does not know are listed in one error.
ComponentWeights open_component(const std::filesystem::path& folder,
                                const std::string& variant = "");

/// Whether open_component would find weights in `folder`, of whatever variant.
bool has_component(const std::filesystem::path& folder);

/// A number for these weights, to tell results of other weights apart: a hash of names, dtypes,
/// shapes and 16 KiB of each tensor, as 64 pieces of 256 bytes, evenly spaced from the first byte
/// to the last. Seen (but for chance, 2^-64) is every change of a tensor of at most 16 KiB, and in
/// larger ones every change of all numbers, as training makes it, or of all numbers of some 63rd
/// part of it in a row. A change of a few numbers of a large tensor, such as one row of an
/// embedding, may go unseen. Quick, also for gigabytes.
uint64_t fingerprint(const ComponentWeights& weights);

/// The tensors of one file, by its ending: .safetensors, or a torch pickle (.bin, .pth, .pt).
TensorMap open_weights(const std::filesystem::path& file);

}  // namespace vggflow
