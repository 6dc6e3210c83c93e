#pragma once
// The functions of functional.h over a device's fused kernels: what their dispatchers call where
// device_kernels() gives a table. On Tensor each is an autograd function whose reverse pass is a
// kernel too; on Dual value and tangent come from one kernel, without a graph.

#include <ATen/core/grad_mode.h>

#include "vggflow/ops/block_functions.h"
#include "vggflow/ops/device_kernels.h"

namespace vggflow::ops::on_device {

using Table = kernels::DeviceTable;

/// Whether autograd follows any of the arguments: then a Dual function must be a composition, which
/// can be differentiated again.
inline bool has_graph(const Tensor& x) { return x.defined() && x.requires_grad(); }
inline bool has_graph(const Dual& x) { return has_graph(x.value) || has_graph(x.tangent); }
template <class... T>
bool followed(const T&... x) {
  return at::GradMode::is_enabled() && (has_graph(x) || ...);
}
/// The table for a Dual function of these arguments, the first of which names device and dtype.
template <class... T>
const Table* dual_kernels(const Dual& first, const T&... rest) {
  const Table* table = device_kernels(first.value);
  return table && !followed(first, rest...) ? table : nullptr;
}

Tensor layer_norm_modulate(const Table&, const Tensor& x, const Tensor& shift, const Tensor& scale,
                           double eps, at::ScalarType out);
Dual layer_norm_modulate(const Table&, const Dual& x, const Dual& shift, const Dual& scale,
                         double eps, at::ScalarType out);
Tensor gated_add(const Table&, const Tensor& x, const Tensor& gate, const Tensor& y);
Dual gated_add(const Table&, const Dual& x, const Dual& gate, const Dual& y);
Gated<Tensor> gated_add_modulate(const Table&, const Tensor& x, const Tensor& gate, const Tensor& y,
                                 const Tensor& shift, const Tensor& scale, double eps);
Gated<Dual> gated_add_modulate(const Table&, const Dual& x, const Dual& gate, const Dual& y,
                               const Dual& shift, const Dual& scale, double eps);
Tensor gelu_tanh(const Table&, const Tensor& x);
Dual gelu_tanh(const Table&, const Dual& x);
/// `second` may be undefined: then out is the first stream alone.
Tensor normalize_qk(const Table&, const Tensor& first, const QkWeights& first_weights,
                    const Tensor& second, const QkWeights& second_weights, int64_t heads,
                    double eps);
Dual normalize_qk(const Table&, const Dual& first, const QkWeights& first_weights,
                  const Dual& second, const QkWeights& second_weights, int64_t heads, double eps);
Tensor lora_up(const Table&, const Tensor& y, const Tensor& u, const Tensor& b, double scale);
Dual lora_up(const Table&, const Dual& y, const Dual& u, const Tensor& b, double scale);
void adamw_step(const Table&, const kernels::AdamWStep& step, const Tensor& gradient,
                Tensor& values, Tensor& m, Tensor& v);

}  // namespace vggflow::ops::on_device
