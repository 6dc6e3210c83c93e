#pragma once
// What a plug-in's file says of itself, before any of its code runs. Loading a library already runs
// its constructors, so a plug-in of another interface would run before it could be refused.

#include <cstdint>
#include <string>

namespace vggflow {

/// Throws unless it is a whole 64-bit ELF file that exports the required functions
/// (reward_plugin.h) and holds the number of this interface. It guards against mistakes and not
/// against malice: whoever made the library decides what its code does.
void check_plugin_file(const std::string& path);

/// Throws unless `abi` is the number of this interface.
void check_plugin_abi(const std::string& path, uint32_t abi);

}  // namespace vggflow
