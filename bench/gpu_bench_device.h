#pragma once
// What gpu_bench asks of a device: to be opened, waited for, and how much memory it took.

#include <ATen/DeviceAccelerator.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <dlfcn.h>

#include <string>

#include "vggflow/core/error.h"
#include "vggflow/core/log.h"

namespace vggflow::bench {

inline at::Device open_device(const std::string& name) {
  const at::Device device(name);
  VGGFLOW_CHECK(device.is_cpu() || dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL),
                "[gpu_bench] expected LibTorch's CUDA library beside libtorch_cpu.so, got: {}",
                dlerror());
  return device;
}

inline void synchronize(at::Device device) {
  if (!device.is_cpu())
    at::accelerator::synchronizeDevice(device.has_index() ? device.index() : c10::DeviceIndex{0});
}

inline void reset_peak(at::Device device) {
  if (!device.is_cpu())
    at::getDeviceAllocator(device.type())->resetPeakStats(std::max<int>(0, device.index()));
}

/// Of tensors since reset_peak on an accelerator, of the whole process on the CPU.
inline double peak_gib(at::Device device) {
  if (device.is_cpu()) return memory_peak_gib();
  const auto stats =
      at::getDeviceAllocator(device.type())->getDeviceStats(std::max<int>(0, device.index()));
  return static_cast<double>(stats.allocated_bytes[0].peak) / (1 << 30);
}

}  // namespace vggflow::bench
