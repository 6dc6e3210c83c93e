#pragma once
// How functions call the CPU's fused kernels (kernels/transformer.h): which tensors they take, the
// element type, modulation vectors as rows, and the least work of a thread.

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>

#include "vggflow/device/device.h"
#include "vggflow/kernels/transformer.h"

namespace vggflow::ops {

inline bool has_kernel(at::ScalarType type) { return type == at::kFloat || type == at::kBFloat16; }
inline bool has_kernel(const at::Tensor& x) {
  return x.is_cpu() && fused_kernels() && has_kernel(x.scalar_type());
}

template <class T>
T* data(const at::Tensor& x) {
  return static_cast<T*>(x.data_ptr());
}

/// Calls f(kernels, T{}) for the element type of `x`.
template <class F>
void by_type(const at::Tensor& x, F&& f) {
  if (x.scalar_type() == at::kFloat) {
    f(kernels::best_table().f32, float{});
  } else {
    f(kernels::best_table().b16, kernels::bf16{});
  }
}

/// A modulation vector as fp32 rows; a chunk of a wider matrix is used in place.
inline at::Tensor as_rows(const at::Tensor& x) {
  const at::Tensor y = x.to(at::kFloat);
  return y.stride(1) == 1 ? y : y.contiguous();
}
inline kernels::Rows rows(const at::Tensor& x) { return {data<float>(x), x.stride(0)}; }

/// Enough work for one thread, in elements.
constexpr int64_t kGrain = 16384;
inline int64_t grain(int64_t per_item) {
  return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, per_item));
}

}  // namespace vggflow::ops
