#pragma once
// What a flow model's prompts become for its network, whatever the family: tensors with one row per
// prompt.

#include <ATen/core/Tensor.h>

#include <map>
#include <string>

#include "vggflow/ops/dual.h"

namespace vggflow {

/// A tensor that a family does not use stays undefined. Every tensor has B rows.
struct Conditioning {
  Tensor context;  ///< (B, T, context_width), embeddings of the prompt's tokens
  Tensor pooled;   ///< (B, pooled_width), one vector for the whole prompt
  std::map<std::string, Tensor> more = {};  ///< anything else, by the family's own names: masks of
                                            ///< the tokens, latents of a first image

  /// Rows `start` to `start + length`, as views.
  Conditioning rows(int64_t start, int64_t length) const;
  /// The rows that `index` (int64) names, in its order.
  Conditioning rows(const Tensor& index) const;
  /// One row repeated `count` times, as a view.
  Conditioning expand(int64_t count) const;
  /// Floating-point tensors in `dtype`; masks stay as they are.
  Conditioning to(at::ScalarType dtype) const;
  /// The rows of `a`, then those of `b`. Both must have the same tensors.
  static Conditioning concat(const Conditioning& a, const Conditioning& b);
};

}  // namespace vggflow
