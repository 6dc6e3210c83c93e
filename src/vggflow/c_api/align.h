#pragma once
// A run of `vggflow align` with a callback.

#include <string>
#include <vector>

#include "vggflow/c_api.h"

namespace vggflow::c_api {

/// Whether Ctrl-C ends runs from now on (VGGFLOW_INTERRUPTED).
void take_interrupts(bool taken);

/// VGGFLOW_FINISHED and so on, of the run that these words of `vggflow align` ask for, in one
/// process, with its report where it finishes. Throws for what the program refuses, for --help and
/// for page=N, which are its own, and within a callback.
int align(const std::vector<std::string>& words, vggflow_on_update on_update, void* user);

}  // namespace vggflow::c_api
