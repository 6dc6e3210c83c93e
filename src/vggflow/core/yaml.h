#pragma once
// YAML that is read whole or refused: what yaml-cpp's Load leaves out in silence is an error.

#include <yaml-cpp/yaml.h>

#include <string>

namespace vggflow {

/// The one document of `text`; null where it is empty. Throws naming `origin`, which begins with
/// the place in square brackets, where the text is no YAML, goes on after its document
/// ("[red heart] ghost"), gives a key twice, or has anchors without an end.
YAML::Node read_yaml(const std::string& text, const std::string& origin);

}  // namespace vggflow
