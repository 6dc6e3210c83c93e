#pragma once
// Layers on pairs (ops/pair.h). Their weights are the base's, and their adapters what the other
// value has besides, so a network with adapters gives the base's value and its own difference from
// it in one pass.

#include <memory>

#include "vggflow/nn/embedder_mlp.h"
#include "vggflow/nn/module.h"
#include "vggflow/nn/pass_counter.h"
#include "vggflow/ops/pair.h"

namespace vggflow {

/// scale * (y A^T) B^T of an adapter, in y's dtype, for y = base + difference; undefined without an
/// adapter.
Tensor adapters_part(const Linear& layer, const Pair& x);

/// (x W^T + b, d W^T + scale ((x + d) A^T) B^T).
Pair through(const Linear& layer, const Pair& x);
Pair through(const Conv2d& layer, const Pair& x);
Pair through(const EmbedderMlp& layer, const Pair& x);

/// layer.forward(x), for what is written over all of NetworkValue.
template <class Layer, TensorLike T>
T through(const Layer& layer, const T& x) {
  return layer.forward(x);
}

/// Counts two forward passes, of the base and of the difference (nn/pass_counter.h).
Pair counted(const Pair& output, const std::shared_ptr<PassCounter>& counter);

}  // namespace vggflow
