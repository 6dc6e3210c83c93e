#include "vggflow/flow/precision.h"

namespace vggflow {

at::ScalarType fast_dtype() {
  return __builtin_cpu_supports("avx512bf16") ? at::kBFloat16 : at::kFloat;
}

at::ScalarType precision_dtype(const std::string& precision) {
  return precision == "bf16" ? at::kBFloat16 : precision == "fp32" ? at::kFloat : fast_dtype();
}

}  // namespace vggflow
