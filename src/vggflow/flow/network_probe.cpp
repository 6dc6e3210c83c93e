#include "vggflow/flow/network_probe.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/tensor.h>

#include <algorithm>

#include "vggflow/ops/random_tensor.h"

namespace vggflow {

Tensor probe_velocity(const FlowNetwork& network, const std::vector<LoraLayer>& adapters) {
  at::NoGradGuard no_grad;
  const NetworkInputs o = network.inputs();
  const auto random = [](uint64_t id, at::IntArrayRef shape) {
    return keyed_normal(/*seed=*/2, Purpose::kTest, 0, id, 2, shape);
  };
  const Conditioning conditioning{random(10, {5, o.context_width}), random(20, {o.pooled_width})};
  const auto side = [&](size_t dim) { return std::min<int64_t>(o.state[dim], 32); };
  const Tensor x = random(30, {o.state[0], side(1), side(2)}), t = at::tensor({0.75f, 0.2f});
  if (adapters.empty()) return network.velocity(x, t, conditioning);
  const auto merged = network.view();
  LoraSet(merged->network(), adapters).bake();
  return merged->velocity(x, t, conditioning);
}

}  // namespace vggflow
