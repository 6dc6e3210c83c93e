#pragma once
// Which fused kernels serve a tensor. The CPU's are chosen by its instruction set
// (kernels/transformer.h); a device's come from its back end's table (kernels/device_table.h).
// Where there are none, for other dtypes, and with kernels=plain, functions take the plain
// composition that specifies them.

#include <ATen/core/Tensor.h>

#include "vggflow/kernels/device_table.h"

namespace vggflow::ops {

/// The table for fp32 and bf16 tensors on x's device; null: take the CPU's kernels or the
/// composition.
const kernels::DeviceTable* device_kernels(const at::Tensor& x);

/// Lets a table serve one kind of device for a scope: in the tests the host's instantiation is a
/// back end of the CPU or of the pretend device.
class DeviceKernelsScope {
 public:
  DeviceKernelsScope(at::DeviceType device, const kernels::DeviceTable& table);
  ~DeviceKernelsScope();
  DeviceKernelsScope(const DeviceKernelsScope&) = delete;
  DeviceKernelsScope& operator=(const DeviceKernelsScope&) = delete;
};

}  // namespace vggflow::ops
