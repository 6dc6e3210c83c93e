#pragma once
// Where the code that runs lies on the disk: what comes with it is found from there.

#include <filesystem>

namespace vggflow {

/// The file that holds this code: the program, or the shared library that it was linked into, as
/// libvggflow_c.so in a Python process. Empty where the system does not tell.
std::filesystem::path module_file();

/// Whether it is a shared library, and the program somebody else's.
bool in_shared_library();

}  // namespace vggflow
