#pragma once
// What OpenMP's threads do while they wait for work; chosen by cli/wait_policy.cpp.

#include <string>

namespace vggflow {

/// The variables that set it in this process, "GOMP_SPINCOUNT=10000"; "the
/// runtime's default" of none.
std::string wait_policy();

}  // namespace vggflow
