#include "vggflow/families/nano/word_encoder.h"

#include <ATen/ATen.h>

#include "vggflow/core/error.h"

namespace vggflow {

WordEncoder::WordEncoder(int64_t vocabulary, int64_t tokens, int64_t w)
    : max_tokens(tokens),
      width(w),
      words(new_parameter({vocabulary, w})),
      positions(new_parameter({tokens, w})) {
  add("word_embedding.weight", words);
  add("position_embedding.weight", positions);
}

void WordEncoder::init(uint64_t seed) {
  uint64_t index = 0;
  for (const NamedTensor& p : parameters()) {
    RandomStream random({seed, Purpose::kInit, /*update=*/2, index++});
    fill_on_host(*p.tensor, [&](std::span<float> values) { random.fill_normal(values); });
  }
  positions.mul_(0.1);
}

Conditioning WordEncoder::forward(const Tensor& given) const {
  VGGFLOW_CHECK(given.dim() == 2 && given.size(1) == max_tokens,
                "[word_encoder] expected ids (B, {}), got {}", max_tokens, shape_string(given));
  const Tensor ids = given.to(words.device());
  const Tensor embedded = at::embedding(words, ids);  // (B, T, W)
  // An empty caption pools its first padding word.
  Tensor real = (ids != 0).to(embedded.scalar_type());
  const Tensor empty = (real.sum(1, true) == 0).to(embedded.scalar_type());
  real = at::cat({at::maximum(real.narrow(1, 0, 1), empty), real.narrow(1, 1, max_tokens - 1)}, 1)
             .unsqueeze(2);
  return {embedded + positions, (embedded * real).sum(1) / real.sum(1)};
}

}  // namespace vggflow
