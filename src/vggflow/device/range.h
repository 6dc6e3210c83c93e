#pragma once
// Marks of a run's parts for profilers of the device.

#include "vggflow/device/cuda_api.h"

namespace vggflow {

/// A part of a run, named in a profiler's time line from its construction to its end: NVTX where
/// the plug-in serves the current device, else nothing. Ranges nest.
class DeviceRange {
 public:
  explicit DeviceRange(const char* name);
  ~DeviceRange();
  DeviceRange(const DeviceRange&) = delete;
  DeviceRange& operator=(const DeviceRange&) = delete;

 private:
  const device::CudaApi* api_;
};

}  // namespace vggflow
