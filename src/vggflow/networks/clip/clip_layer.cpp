#include "vggflow/networks/clip/clip_layer.h"

#include "vggflow/core/error.h"

namespace vggflow {

ClipActivation clip_activation(const std::string& word, const std::string& origin) {
  for (const auto& [known, activation] : option_words(ClipActivation{})) {
    if (word == known) return activation;
  }
  fail("[clip] {}: expected the activation quick_gelu or gelu, got '{}'", origin, word);
}

}  // namespace vggflow
