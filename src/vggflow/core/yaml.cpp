#include "vggflow/core/yaml.h"

#include <set>
#include <vector>

#include "vggflow/core/error.h"

namespace vggflow {
namespace {

void check_keys(const YAML::Node& node, const std::string& origin) {
  std::set<std::string> keys;
  if (node.IsSequence()) {
    for (const YAML::Node& entry : node) check_keys(entry, origin);
  } else if (node.IsMap()) {
    for (const auto& entry : node) {
      if (entry.first.IsScalar()) {
        VGGFLOW_CHECK(keys.insert(entry.first.Scalar()).second,
                      "{}: the key '{}' is given twice: expected each once", origin,
                      entry.first.Scalar());
      }
      check_keys(entry.second, origin);
    }
  }
}

}  // namespace

YAML::Node read_yaml(const std::string& text, const std::string& origin) {
  std::vector<YAML::Node> documents;
  try {
    documents = YAML::LoadAll(text);
  } catch (const YAML::Exception& e) {
    fail("{} is not YAML: {}", origin, e.what());
  }
  VGGFLOW_CHECK(documents.size() <= 1,
                "{}: expected one value, got {}: put what holds a space between quotes, and what "
                "belongs to a list into its brackets",
                origin, documents.size());
  if (documents.empty()) return {};
  check_keys(documents.front(), origin);
  return documents.front();
}

}  // namespace vggflow
