#include "vggflow/kernels/transformer.h"

namespace vggflow::kernels {

const KernelTable& best_table() { return *tables().back(); }

}  // namespace vggflow::kernels
