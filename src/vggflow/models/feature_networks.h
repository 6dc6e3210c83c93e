#pragma once
// Feature networks by name: metrics and reports ask for "inception-v3" and a file.

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "vggflow/models/feature_network.h"

namespace vggflow {

/// Known names, in alphabetical order.
std::vector<std::string> feature_network_names();

/// The network of that name with the weights at `path`; its features need no gradient. An unknown name lists the known ones.
std::unique_ptr<FeatureNetwork> make_feature_network(const std::string& name, const std::filesystem::path& path);

}  // namespace vggflow
