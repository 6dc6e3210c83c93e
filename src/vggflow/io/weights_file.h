#pragma once
// One file of weights, whoever saved it.

#include <filesystem>

#include "vggflow/io/safetensors.h"

namespace vggflow {

/// Tensors, which view the file, and a safetensors header's metadata.
struct WeightsFile {
  TensorMap tensors;
  Metadata metadata;
};

/// Reads a safetensors file or a torch pickle, told apart by its first bytes and not by its name.
/// Quantised weights are refused by the name of their kind.
WeightsFile read_weights(const std::filesystem::path& file);

}  // namespace vggflow
