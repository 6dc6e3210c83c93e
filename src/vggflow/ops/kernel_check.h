#pragma once
// Proof of the fused functions on a device: values, reverse passes and tangents in fp32 and bf16
// against the compositions that specify them, in double precision on the CPU, at an odd width and
// at SD3's.

#include <c10/core/Device.h>

#include <string>
#include <vector>

namespace vggflow::ops {

/// The largest |got - want| / |want|, 2-norms, over a function's results, gradients and tangents.
struct KernelError {
  std::string name;  ///< "adaLN bf16, width 1536"
  double error, bound;
  bool ok() const { return error <= bound; }
};

std::vector<KernelError> kernel_check(at::Device device);

}  // namespace vggflow::ops
