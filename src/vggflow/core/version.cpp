#include "vggflow/core/version.h"

#include "vggflow_commit.h"  // made by cmake/Version.cmake at each build

namespace vggflow {

std::string version() { return VGGFLOW_VERSION; }

std::string commit() { return VGGFLOW_COMMIT; }

}  // namespace vggflow
