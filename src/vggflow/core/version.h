#pragma once
// Which vggflow this is.

#include <string>

namespace vggflow {

/// The release, "0.1.0".
std::string version();
/// The commit that was built, "9001bc5" or "9001bc5-dirty"; "unknown" outside a git checkout.
std::string commit();

}  // namespace vggflow
