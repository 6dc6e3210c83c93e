#pragma once
// Proof that a GPU computes what the CPU does, and how fast it is: what `vggflow check` says of
// one.

#include <c10/core/Device.h>

#include <cstdint>
#include <vector>

#include "vggflow/proofs/self_check.h"

namespace vggflow {

/// The fused functions on `device` against their compositions in float64 on the CPU.
std::vector<CheckResult> device_check(at::Device device);

/// What a device reaches at its best: the figures that a run's are shares of.
struct DeviceSpeed {
  double tflops;  ///< 10^12 operations per second, a bf16 product of square matrices
  double gbytes;  ///< 10^9 bytes per second read and written, a copy of 1 GiB
  int64_t side;   ///< of the matrices: 8192
};
/// The medians of a few repeats after a warm-up; takes about a second and 2.5 GB of a GPU. A device
/// that is no faster than a CPU is measured on matrices of 512 and a copy of 16 MiB.
DeviceSpeed device_speed(at::Device device);

}  // namespace vggflow
