#pragma once
// What OpenMP's threads do while they wait for work; chosen by cli/wait_policy.cpp.

#include <string>

namespace vggflow {

/// The variables that set it, of any runtime.
inline constexpr const char* kWaitVariables[] = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT",
                                                 "KMP_BLOCKTIME"};

/// Those of this process, "GOMP_SPINCOUNT=10000"; "the runtime's default" of none.
std::string wait_policy();

}  // namespace vggflow
