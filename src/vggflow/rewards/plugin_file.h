#pragma once
// What a plug-in's file says of itself, before any of its code runs. Loading a library already runs
// its constructors, so a plug-in of another interface would run before it could be refused.

#include <cstdint>
#include <optional>
#include <set>
#include <string>

namespace vggflow {

/// What a shared library exports.
struct PluginFile {
  std::set<std::string> symbols;
  std::optional<uint32_t> abi;  ///< the constant vggflow_reward_abi_number
};

/// Reads the dynamic symbols of a 64-bit ELF file. Throws where it is none, or is cut off.
PluginFile read_plugin_file(const std::string& path);

/// Throws unless the file exports the required functions (reward_plugin.h) and holds the number of
/// this interface. It guards against mistakes and not against malice: whoever made the library
/// decides what its code does.
void check_plugin_file(const std::string& path);

}  // namespace vggflow
