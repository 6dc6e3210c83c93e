#pragma once
// One file of weights, whoever saved it.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

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

/// What such a file holds, without its numbers.
struct WeightsListing {
  struct Item {
    std::string name;
    at::ScalarType dtype;
    std::vector<int64_t> shape;
  };
  std::vector<Item> tensors;  ///< a safetensors file's by name, a pickle's in its order
  Metadata metadata;
};

/// Lists a safetensors file or a torch pickle, told apart as read_weights does; quantised ones too.
WeightsListing list_weights(const std::filesystem::path& file);

}  // namespace vggflow
