#include "vggflow/flow/precision.h"

#include "vggflow/core/error.h"
#include "vggflow/device/device.h"

namespace vggflow {

at::ScalarType fast_dtype() { return fast_dtype(current_device()); }

at::ScalarType precision_dtype(Precision precision) {
  switch (precision) {
    case Precision::kAuto:
      return fast_dtype();
    case Precision::kBf16:
      return at::kBFloat16;
    case Precision::kFp32:
      return at::kFloat;
  }
  fail("[precision] expected a known precision, got {}", static_cast<int>(precision));
}

}  // namespace vggflow
