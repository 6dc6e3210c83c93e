#pragma once
// What the program says of an exception.

#include <exception>
#include <string>

namespace vggflow {

/// One message without LibTorch's stack frames. Where memory ran out, on a device or on the host,
/// it says so first, and which settings need less.
std::string error_text(const std::exception& e);

}  // namespace vggflow
