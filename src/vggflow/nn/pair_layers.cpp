#include "vggflow/nn/pair_layers.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/linear.h>

#include "vggflow/core/error.h"
#include "vggflow/ops/cast_linear.h"

namespace vggflow {

Tensor adapters_part(const Linear& layer, const Pair& x) {
  const LoraAdapter& lora = layer.lora;
  if (!lora.a.defined()) return {};
  const auto dtype = x.base.scalar_type();
  const Pair u = ops::linear(x, lora.a.to(dtype), Tensor());
  const Tensor up = at::linear(sum_of(u.base, u.difference), lora.b.to(dtype));
  return lora.scale == 1 ? up : up * lora.scale;
}

Pair through(const Linear& layer, const Pair& x) {
  VGGFLOW_CHECK(x.base.size(-1) == layer.in, "[linear] expected x (..., {}), got {}", layer.in,
                shape_string(x.base));
  const Pair y = ops::cast_linear(x, layer.weight, layer.bias);
  return {y.base, sum_of(y.difference, adapters_part(layer, x))};
}

Pair through(const Conv2d& layer, const Pair& x) {
  const auto dtype = x.base.scalar_type();
  VGGFLOW_CHECK(x.base.dim() == 4 && x.base.size(1) == layer.in,
                "[conv2d] expected x (B, {}, H, W), got {}", layer.in, shape_string(x.base));
  return ops::conv2d(x, layer.weight.to(dtype), ops::cast(layer.bias, dtype), layer.stride,
                     layer.padding, layer.groups);
}

Pair through(const EmbedderMlp& layer, const Pair& x) {
  return through(layer.linear_2, ops::silu(through(layer.linear_1, x)));
}

Pair counted(const Pair& output, const std::shared_ptr<PassCounter>& counter) {
  if (counter) counter->forward += 2 * static_cast<double>(output.base.size(0));
  return output;
}

}  // namespace vggflow
