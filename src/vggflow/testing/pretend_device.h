#pragma once
// A pretend accelerator for tests: LibTorch's PrivateUse1 device whose memory lies in pages that
// the host cannot touch. Each page has a readable twin at a constant distance, and every operation
// runs the CPU's kernel on the twins. So results are the CPU's, and what would go wrong on a GPU
// goes wrong here: tensors of two devices in one operation, a host pointer into device memory
// (SIGSEGV), memory that was never written (NaN). It is stricter than CUDA in one place: an index
// on the CPU is refused, where CUDA would copy it in silence. What makes a GPU wait is counted.
//
// There is one such device per process; a test executable that uses it has it from the start.

#include <c10/core/Device.h>

#include <cstdint>

namespace vggflow::testing {

struct DeviceCounts {
  int64_t operations = 0;
  int64_t to_device = 0, to_host = 0;  ///< copies between host and device
  int64_t bytes_to_device = 0, bytes_to_host = 0;
  int64_t items = 0;  ///< single numbers that the host asked for

  int64_t copies() const { return to_device + to_host; }
  DeviceCounts operator-(const DeviceCounts& before) const;
};

inline at::Device pretend_device() { return {at::kPrivateUse1, 0}; }

/// Since the process began.
DeviceCounts device_counts();

/// The readable twin of a device pointer.
void* host_twin(void* device_pointer);

/// While one lives, an allocation that would raise what tensors hold above `bytes` throws as a full
/// card does.
class DeviceLimit {
 public:
  explicit DeviceLimit(int64_t bytes);
  ~DeviceLimit();
  DeviceLimit(const DeviceLimit&) = delete;
  DeviceLimit& operator=(const DeviceLimit&) = delete;
};

}  // namespace vggflow::testing
