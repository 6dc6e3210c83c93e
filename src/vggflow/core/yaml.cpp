#include "vggflow/core/yaml.h"

#include <set>
#include <vector>

#include "vggflow/core/error.h"

namespace vggflow {
namespace {

// Looks at every key. Anchors make nodes that hold themselves, and small texts of endless nodes.
class KeyCheck {
 public:
  explicit KeyCheck(const std::string& origin) : origin_(origin) {}
  void operator()(const YAML::Node& node, int depth = 0) {
    VGGFLOW_CHECK(
        depth <= kDepth && left_-- > 0,
        "{}: expected at most {} nodes within {} levels, got more: write out what anchors "
        "stand for",
        origin_, kNodes, kDepth);
    if (node.IsSequence()) {
      for (const YAML::Node& entry : node) (*this)(entry, depth + 1);
    } else if (node.IsMap()) {
      std::set<std::string> keys;
      for (const auto& entry : node) {
        if (entry.first.IsScalar()) {
          VGGFLOW_CHECK(keys.insert(entry.first.Scalar()).second,
                        "{}, line {}: the key '{}' is there twice", origin_,
                        entry.first.Mark().line + 1, entry.first.Scalar());
        }
        (*this)(entry.second, depth + 1);
      }
    }
  }

 private:
  static constexpr int kDepth = 100, kNodes = 1'000'000;
  const std::string& origin_;
  int left_ = kNodes;
};

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
  KeyCheck{origin}(documents.front());
  return documents.front();
}

}  // namespace vggflow
