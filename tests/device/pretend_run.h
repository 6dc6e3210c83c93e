#pragma once
// The same computation on the CPU's plain operations and on the pretend device, which runs those.

#include <ATen/Context.h>
#include <ATen/Parallel.h>

#include <cstdlib>

#include "vggflow/device/device.h"
#include "vggflow/testing/pretend_device.h"

namespace vggflow::testing {

/// MKL's products round by where their matrices begin in memory unless it is told not to, before
/// its first one. Weights of a mapped file begin anywhere, their copies on a device at a page.
inline const bool kProductsIgnoreAlignment = ::setenv("MKL_CBWR", "COMPATIBLE", 1) == 0;

/// LibTorch's own operations on one thread, attention by its plain formula: what the pretend device
/// computes with. (One thread: backward passes run on a thread of the device's, whose pool of
/// workers is another.)
class PlainOperations {
 public:
  PlainOperations() : plain_(DeviceOptions{.device = "cpu", .kernels = Kernels::kPlain}) {
    at::set_num_threads(1);
    at::globalContext().setSDPUseFlash(false);
  }
  ~PlainOperations() { at::globalContext().setSDPUseFlash(true); }

 private:
  DeviceScope plain_;
};

template <class F>
auto on_plain_cpu(F&& f) {
  const PlainOperations plain;
  return f();
}

template <class F>
auto on_pretend_device(F&& f) {
  const PlainOperations plain;
  const DeviceScope device(pretend_device());
  return f();
}

}  // namespace vggflow::testing
