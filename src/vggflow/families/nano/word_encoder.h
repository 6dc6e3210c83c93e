#pragma once
// The nano model's text encoder: a word embedding table. It gives what SD3's encoders give: tokens
// and one pooled vector.

#include "vggflow/flow/conditioning.h"
#include "vggflow/nn/module.h"

namespace vggflow {

class WordEncoder : public Module {
 public:
  WordEncoder(int64_t vocabulary, int64_t max_tokens, int64_t width);
  /// ids (B, T) int64, 0 = padding. Tokens: word + position embedding. Pooled: mean word embedding
  /// of the caption's words, the padding word's for an empty caption.
  Conditioning forward(const Tensor& ids) const;
  void init(uint64_t seed);

  int64_t max_tokens, width;
  Tensor words;      ///< (V, width)
  Tensor positions;  ///< (T, width)
};

}  // namespace vggflow
