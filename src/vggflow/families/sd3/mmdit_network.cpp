#include "vggflow/families/sd3/mmdit_network.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <vector>

namespace vggflow {
namespace {

constexpr double kClock = 1000;  // timesteps from data to noise

Tensor timestep_of(const Tensor& t) { return (1 - t) * kClock; }
Dual timestep_of(const Dual& t) { return {(1 - t.value) * kClock, t.tangent * -kClock}; }

}  // namespace

Tensor mmdit_velocity(const Mmdit& network, const Tensor& x, const Tensor& t,
                      const Conditioning& c) {
  return -network.forward(x, timestep_of(t), c);
}

Dual mmdit_velocity(const Mmdit& network, const Dual& x, const Dual& t, const Conditioning& c) {
  const Dual u = network.forward(x, timestep_of(t), c);
  return {-u.value, -u.tangent};
}

Pair mmdit_velocity_pair(const Mmdit& network, const Tensor& x, const Tensor& t,
                         const Conditioning& c) {
  const at::NoGradGuard no_graph;
  const Pair u = network.forward(Pair{x, {}}, Pair{timestep_of(t), {}}, c);
  return {-u.base, u.difference.defined() ? -u.difference : u.difference};
}

NetworkInputs mmdit_inputs(const MmditOptions& o) {
  return {{o.channels, o.sample_size, o.sample_size}, o.context_dim, o.pooled_dim};
}

std::unique_ptr<FlowNetwork> mmdit_view(const Mmdit& network) {
  return std::make_unique<MmditNetwork>(network.view());
}

MmditOptions small_mmdit_options(int64_t width, int64_t layers, int64_t states,
                                 const MmditOptions& like) {
  MmditOptions small = like;
  small.channels *= states;
  small.head_dim = 32;
  small.heads = width / 32;
  small.layers = layers;
  std::erase_if(small.dual_attention_layers, [&](int64_t layer) { return layer >= layers; });
  return small;
}

std::unique_ptr<FlowNetwork> small_mmdit(const MmditOptions& options, uint64_t seed) {
  auto network = std::make_unique<Mmdit>(options);
  network->init(seed);
  return std::make_unique<MmditNetwork>(std::move(network));
}

}  // namespace vggflow
