#include "vggflow/core/processor.h"

namespace vggflow {

Processor processor() { return {}; }

}  // namespace vggflow
