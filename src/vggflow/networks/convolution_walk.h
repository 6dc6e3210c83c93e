#pragma once
// Work and memory of networks of convolutions, layer by layer (nn/pass_cost.h).

#include <algorithm>

#include "vggflow/nn/pass_cost.h"

namespace vggflow {

/// FLOPs of a convolution of side x side over `pixels` pixels of its result.
inline double convolution_work(double in, double out, double pixels, double side = 3) {
  return 2 * side * side * in * out * pixels;
}

/// A walk over layers that adds up work and what is kept, in fp32.
struct ConvolutionWalk {
  static constexpr double kBytes = 4;
  bool checkpointing = false;
  PassCost cost = {};
  double backward_peak =
      0;  // while a block is run again: what is kept up to it, all that it keeps, and cotangents

  void keep(double numbers) { cost.graph += kBytes * numbers; }
  void work(double flops) {
    cost.forward += flops;
    cost.backward += flops;
  }
  void live(double numbers) { cost.idle = std::max(cost.idle, kBytes * numbers); }
  // A block's inputs, and all that it keeps, these included.
  void block(double input, double graph, double widest) {
    keep(checkpointing ? input : graph);
    if (checkpointing)
      backward_peak = std::max(backward_peak, cost.graph + kBytes * (graph - input + 4 * widest));
  }
  // The backward pass starts with everything kept and the last layers' cotangents.
  PassCost finish(double last_cotangents) {
    cost.unwind = std::max(kBytes * last_cotangents, backward_peak - cost.graph);
    return cost;
  }
  void resnet(double in, double out, double pixels) {
    const double flops = convolution_work(in, out, pixels) + convolution_work(out, out, pixels) +
                         (in == out ? 0 : convolution_work(in, out, pixels, 1));
    work(flops);
    if (checkpointing) cost.backward += flops;
    block(in * pixels, 3 * (in + out) * pixels,
          std::max(in, out) * pixels);  // before and after each norm, and after each silu
    live((in + 3 * out) * pixels + 2 * std::max(in, out) * pixels);
  }
};

}  // namespace vggflow
