#pragma once
// A TAESD3 with weights of a pattern, for tests.

#include <filesystem>
#include <string>

#include "vggflow/io/files.h"
#include "vggflow/io/safetensors.h"
#include "vggflow/networks/autoencoders/taesd.h"
#include "vggflow/testing/pattern.h"

namespace vggflow::testing {

/// Writes both sides into a folder, as published, and returns it. Another `kind` has other weights.
inline std::filesystem::path write_taesd(const std::filesystem::path& folder,
                                         const std::string& kind = "") {
  make_writable_folder(folder);
  const auto write = [&](const char* name, const auto& network) {
    TensorList tensors;
    for (const NamedTensor& p : network.parameters())
      tensors.emplace_back(p.name, pattern_weight(kind + p.name, p.tensor->sizes()));
    write_safetensors(folder / name, tensors);
  };
  write("taesd3_encoder.safetensors", TaesdEncoder());
  write("taesd3_decoder.safetensors", TaesdDecoder());
  return folder;
}

}  // namespace vggflow::testing
