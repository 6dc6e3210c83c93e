#include "vggflow/networks/vision/vision_cost.h"

#include <algorithm>
#include <vector>

namespace vggflow {
namespace {

constexpr double kFloat = 4;  // bytes of the residual streams and of convolutions

double real(int64_t x) { return static_cast<double>(x); }

// Numbers in the input of a convolution whose padding differs at both ends: it is copied with its
// padding, and once more into the layout of the CPU's convolutions. Else none.
double padded_input(const ConvShape& s, int64_t side) {
  const int64_t out = (side + s.stride - 1) / s.stride,
                padding = std::max<int64_t>(0, (out - 1) * s.stride + s.height - side);
  return padding % 2 == 0 ? 0 : real(s.in * (side + padding) * (side + padding));
}

}  // namespace

VisionTower tower_of(const ClipVisionOptions& o) {
  const int64_t side = o.image / o.patch;
  return {.width = o.width,
          .layers = o.layers,
          .tokens = 1 + side * side,
          .patch = o.patch,
          .mlp = o.mlp_width};
}

VisionTower tower_of(const VitOptions& o) {
  return {.width = o.width,
          .layers = o.layers,
          .tokens = o.tokens(),
          .patch = o.patch,
          .mlp = 4 * o.width};
}

PassCost vision_cost(const VisionTower& t, int64_t bytes, bool recompute) {
  const double n = real(t.tokens), d = real(t.width), mlp = real(t.mlp), layers = real(t.layers),
               e = real(bytes);
  PassCost cost;
  cost.attention = layers * 4 * n * n * d;
  const double linear = layers * 2 * n * (4 * d * d + 2 * d * mlp);
  cost.forward = linear + cost.attention + 2 * n * 3 * real(t.patch * t.patch) * d;
  cost.backward = linear + 2.5 * cost.attention + 2 * n * 3 * real(t.patch * t.patch) * d;
  const double layer =
      n *
      (2 * kFloat * d + 4 * e * d +
       2 * e *
           mlp);  // inputs of both norms; q, k, v and the attention's result; around the activation
  cost.graph = layers * (recompute ? kFloat * n * d : layer) +
               2 * kFloat * n * d;                 // and around the norm before the first layer
  cost.idle = n * (2 * kFloat * d + 5 * e * mlp);  // the steps of quick_gelu; gelu takes fewer
  cost.unwind = n * (2 * kFloat * d + 3 * e * mlp) + (recompute ? layer : 0);
  if (recompute) cost.backward += cost.forward;
  return cost;
}

// A convolution keeps its input, and relu6 what it is given; both come back as cotangents. Places
// are counted for odd kernels that halve the side or keep it.
PassCost mobilenet_cost(const MobileNetOptions& o, int64_t side) {
  struct Kept {
    double graph, cotangents;
  };
  const ShapesOnly guard;
  MobileNet net(o);
  std::vector<Kept> kept;
  PassCost cost;
  const auto layer = [&](const ConvLayer& conv, double block_input) {
    const ConvShape& s = conv.shape;
    const double in = real(s.in * side * side), padded = padded_input(s, side);
    side = (side + s.stride - 1) / s.stride;
    const double out = real(s.out * side * side);
    const bool active = conv.activation != Activation::kNone;
    cost.forward += 2 * real(s.height * s.width * (s.in / s.groups)) * out;
    cost.idle = std::max({cost.idle, kFloat * (block_input + in + (active ? 2 : 1) * out),
                          kFloat * (block_input + in + 2 * padded + out)});
    kept.push_back({kFloat * (in + (active ? out : 0)), kFloat * (in + (active ? 2 : 1) * out)});
  };
  layer(net.stem, 0);
  for (const auto& block : net.blocks) {
    const double input = real(block->convs.front()->shape.in * side * side);
    for (const auto& conv : block->convs) layer(*conv, conv == block->convs.front() ? 0 : input);
  }
  if (net.head) layer(*net.head, 0);
  cost.forward += 2 * real(net.classifier.in * net.classifier.out);
  cost.backward = cost.forward;
  double peak = 0;  // backward: what earlier layers keep, and this one's cotangents
  for (const Kept& k : kept) {
    cost.graph += k.graph;
    peak = std::max(peak, cost.graph + k.cotangents);
  }
  cost.unwind = peak - cost.graph;
  return cost;
}

}  // namespace vggflow
