#include "vggflow/kernels/narrow.h"
#include "vggflow/kernels/transformer.h"

namespace vggflow::kernels {

const KernelTable& best_table() {
  static const KernelTable& table =
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
              __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("fma")
          ? avx512_table()
      : __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? avx2_table()
                                                                        : baseline_table();
  return table;
}

const NarrowKernels* narrow_kernels() {
  static const NarrowKernels* kernels =
      __builtin_cpu_supports("avx512bf16") && best_table().isa == "avx512" ? &avx512_bf16_kernels()
                                                                           : nullptr;
  return kernels;
}

}  // namespace vggflow::kernels
