#pragma once
// Where the tests of the models find the values that the scripts of tools/reference/ made.

#include <filesystem>
#include <string>

#include "vggflow/io/model_files.h"

namespace vggflow::testing {

inline std::filesystem::path models_testdata(const std::string& name) {
  return std::filesystem::path(VGGFLOW_SOURCE_DIR) / "tests/data" / name;
}

/// The tensors of a file whose names begin with `prefix`, by what follows it: a state dict among
/// other values.
inline ComponentWeights weights_under(const SafetensorsFile& file, const std::string& prefix) {
  ComponentWeights out{{}, {}, "reference"};
  for (const auto& [name, entry] : file.tensors()) {
    if (name.starts_with(prefix)) out.tensors[name.substr(prefix.size())] = file.load(name);
  }
  return out;
}

}  // namespace vggflow::testing
