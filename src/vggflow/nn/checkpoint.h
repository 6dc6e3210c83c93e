#pragma once
// Activation checkpointing (Chen et al. 2016, arXiv 1604.06174): a block keeps its inputs alone and
// runs again when its gradient is asked for, which trades one more forward pass for the memory of
// everything in between.

#include <functional>
#include <vector>

#include "vggflow/nn/module.h"

namespace vggflow {

/// A block as a function of its inputs.
using BlockFunction = std::function<std::vector<Tensor>(const std::vector<Tensor>&)>;

/// f(inputs), where f calls `module` and nothing else that has a gradient: gradients flow to
/// `inputs`, to the module's parameters and to its adapters. f runs now without a graph, and once
/// more in the backward pass. The module must live until then, and its parameters and adapters must
/// be unchanged. Second derivatives (create_graph) are refused:
/// use Dual.
std::vector<Tensor> checkpoint(const Module& module, const BlockFunction& f,
                               const std::vector<Tensor>& inputs);

/// block.forward(x), checkpointed. Of a Dual, value and tangent are both inputs and results.
template <class Block>
Tensor checkpoint(const Block& block, const Tensor& x) {
  return checkpoint(
      block,
      [&block](const std::vector<Tensor>& v) { return std::vector<Tensor>{block.forward(v[0])}; },
      {x})[0];
}
template <class Block>
Dual checkpoint(const Block& block, const Dual& x) {
  const auto forward = [&block](const std::vector<Tensor>& v) {
    const Dual y = block.forward(Dual{v[0], v[1]});
    return std::vector<Tensor>{y.value, y.tangent};
  };
  const auto y = checkpoint(block, forward, {x.value, x.tangent});
  return {y[0], y[1]};
}

}  // namespace vggflow
