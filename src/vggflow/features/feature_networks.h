#pragma once
// Feature networks by name: metrics, evaluations and reports ask for "inception-v3=FILE".

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "vggflow/features/feature_network.h"

namespace vggflow {

/// Known names, in alphabetical order.
std::vector<std::string> feature_network_names();

/// The network of that name with the weights at `path`; its features need no gradient. An unknown
/// name lists the known ones.
std::unique_ptr<FeatureNetwork> make_feature_network(const std::string& name,
                                                     const std::filesystem::path& path);

/// Folders of the project's own networks, whose features need no path in their name.
struct OwnFeatures {
  std::filesystem::path judge, emoji_clip;
};

/// "NAME=PATH" of make_feature_network, or one of the project's own: judge, emoji-clip, pixels-8x8.
/// An unknown name lists the known ones.
std::shared_ptr<const FeatureNetwork> open_features(const std::string& name,
                                                    const OwnFeatures& own);

}  // namespace vggflow
