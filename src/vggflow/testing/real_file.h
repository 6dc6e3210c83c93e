#pragma once
// Public files that tests of the label `real` read: VGGFLOW_ASSETS, a folder of the machine's, and
// what scripts/setup.sh --test made of PyPI's wheels.

#include <cstdlib>
#include <filesystem>
#include <string>

namespace vggflow::testing {

/// VGGFLOW_ASSETS; empty where it is not set.
inline std::filesystem::path assets() {
  const char* folder = std::getenv("VGGFLOW_ASSETS");
  return folder ? folder : "";
}

/// VGGFLOW_ASSETS/asset, or else `made` of setup.sh; empty where neither is there.
inline std::filesystem::path real_file(const std::string& asset, const std::string& made) {
  const std::filesystem::path ours =
      std::filesystem::path(VGGFLOW_SOURCE_DIR) / ".venv-test/weights" / made;
  if (!assets().empty() && std::filesystem::exists(assets() / asset)) return assets() / asset;
  return std::filesystem::exists(ours) ? ours : std::filesystem::path();
}

}  // namespace vggflow::testing
