#pragma once
// A model folder: config.yaml, model.safetensors (bf16 unless asked otherwise) and, for models of
// text, vocabulary.txt.

#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "vggflow/core/config.h"
#include "vggflow/nn/module.h"
#include "vggflow/text/vocabulary.h"

namespace vggflow {

/// Reads folder/model.safetensors into the model's parameters and freezes them. Every tensor must
/// fit.
void load_weights(Module& model, const std::filesystem::path& folder);

void save_model(Module& model, const Fields& config, const std::optional<Vocabulary>& vocabulary,
                const std::filesystem::path& folder,
                const std::map<std::string, std::string>& metadata,
                at::ScalarType dtype = at::kBFloat16);

/// content_hash of a network's parameters as they are.
std::string weights_hash(const Module& model);

/// PyTorch's default initialisation of every linear and convolutional layer, keyed by its place in
/// the network.
void init_layers(Module& model, uint64_t seed);

}  // namespace vggflow
