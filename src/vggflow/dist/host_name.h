#pragma once

#include <string>

namespace vggflow {

/// What this machine calls itself.
std::string host_name();

}  // namespace vggflow
