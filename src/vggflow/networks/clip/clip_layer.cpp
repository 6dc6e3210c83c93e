#include "vggflow/networks/clip/clip_layer.h"

#include "vggflow/core/error.h"

namespace vggflow {

ClipActivation clip_activation(const std::string& word, const std::string& origin) {
  if (const auto activation = option_of<ClipActivation>(word)) return *activation;
  fail("[clip] {}: expected the activation quick_gelu or gelu, got '{}'", origin, word);
}

}  // namespace vggflow
