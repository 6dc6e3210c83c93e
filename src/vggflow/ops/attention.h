#pragma once
// Attention by LibTorch's fused kernels.

#include <ATen/core/Tensor.h>

#include <optional>

namespace vggflow::ops {

/// softmax(q k^T / sqrt(C) + mask) v for q (B, H, N, C) and k, v (B, H, M, C). On a GPU by cuDNN's,
/// the flash or the memory-efficient kernel, in this order of preference (device/device.cpp sets
/// it); where none takes the shapes it throws: the plain formula would hold B H N M scores.
at::Tensor fused_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const std::optional<at::Tensor>& mask);

}  // namespace vggflow::ops
