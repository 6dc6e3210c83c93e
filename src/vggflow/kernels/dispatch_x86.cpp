#include "vggflow/core/processor.h"
#include "vggflow/kernels/narrow.h"
#include "vggflow/kernels/transformer.h"

namespace vggflow::kernels {

const std::vector<const KernelTable*>& tables() {
  static const auto all = [] {
    std::vector<const KernelTable*> found{&baseline_table()};
    if (processor().avx2) found.push_back(&avx2_table());
    if (processor().avx512) found.push_back(&avx512_table());
    return found;
  }();
  return all;
}

const NarrowKernels* narrow_kernels() {
  static const NarrowKernels* kernels = processor().avx512_bf16 ? &avx512_bf16_kernels() : nullptr;
  return kernels;
}

}  // namespace vggflow::kernels
