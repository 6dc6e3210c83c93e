#pragma once
// The embedding of a time or of a pooled prompt by two layers, under diffusers' names.

#include "vggflow/nn/module.h"

namespace vggflow {

/// linear_2(silu(linear_1(x))).
class EmbedderMlp : public Module {
 public:
  EmbedderMlp(int64_t in, int64_t width) : linear_1(in, width), linear_2(width, width) {
    add("linear_1", linear_1);
    add("linear_2", linear_2);
  }
  template <TensorLike T>
  T forward(const T& x) const {
    return linear_2.forward(ops::silu(linear_1.forward(x)));
  }
  Linear linear_1, linear_2;
};

}  // namespace vggflow
