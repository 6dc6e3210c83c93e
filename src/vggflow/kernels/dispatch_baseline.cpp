// Processors other than x86: what the compiler makes of the plain loops.
#include "vggflow/kernels/narrow.h"
#include "vggflow/kernels/transformer.h"

namespace vggflow::kernels {

const std::vector<const KernelTable*>& tables() {
  static const std::vector<const KernelTable*> all{&baseline_table()};
  return all;
}

const NarrowKernels* narrow_kernels() { return nullptr; }

}  // namespace vggflow::kernels
