#pragma once
// What gpu_bench asks of a device besides device/device.h: to be waited for.

#include <ATen/DeviceAccelerator.h>
#include <c10/core/Device.h>

#include "vggflow/core/log.h"
#include "vggflow/device/device.h"

namespace vggflow::bench {

inline void synchronize(at::Device device) {
  if (!device.is_cpu())
    at::accelerator::synchronizeDevice(device.has_index() ? device.index() : c10::DeviceIndex{0});
}

/// Of tensors since reset_device_peak on an accelerator, of the whole process on the CPU.
inline double peak_gib() {
  const auto memory = device_memory();
  return memory ? memory->peak_gib : memory_peak_gib();
}

}  // namespace vggflow::bench
