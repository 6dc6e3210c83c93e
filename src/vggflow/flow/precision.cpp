#include "vggflow/flow/precision.h"

#include "vggflow/device/device.h"

namespace vggflow {

at::ScalarType fast_dtype() { return fast_dtype(current_device()); }

at::ScalarType precision_dtype(const std::string& precision) {
  return precision == "bf16" ? at::kBFloat16 : precision == "fp32" ? at::kFloat : fast_dtype();
}

}  // namespace vggflow
