#pragma once
// What a network takes, from its sizes alone: parameters, floating point operations (a multiply-add
// is 2) and bytes of tensors.

#include "vggflow/nn/module.h"

namespace vggflow {

/// One pass over one sample (and guidance branch).
struct PassCost {
  double forward = 0,
         backward = 0;    ///< FLOPs; backward is to the inputs and to whatever is trained
  double attention = 0;   ///< of the forward FLOPs, those of attention
  double graph = 0;       ///< bytes kept for the backward pass
  double graph_once = 0;  ///< bytes kept a call, however many samples
  double idle = 0;        ///< largest bytes that live at once in a pass without gradient
  double unwind = 0;  ///< bytes that the backward pass, with one recomputed block where blocks are
                      ///< checkpointed, takes at most besides the graph
};

/// Parameters of a network as it is built, without memory for its numbers.
template <class Network, class... Options>
double count_parameters(const Options&... options) {
  const ShapesOnly guard;
  return static_cast<double>(Network(options...).parameter_count());
}

}  // namespace vggflow
