#include "vggflow/core/processor.h"

namespace vggflow {

Processor processor() {
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  return {avx2, avx512, avx512 && __builtin_cpu_supports("avx512bf16")};
}

}  // namespace vggflow
