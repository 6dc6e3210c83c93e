#pragma once
// The models and configurations that come with the program. A setting names them as a checkout
// has them, "models/nano", and they are found from any working folder.

#include <filesystem>
#include <string>

namespace vggflow {

/// `path` where it exists. Else, for a relative path into models/ or configs/, the one that came
/// with the program: PREFIX/share/vggflow of PREFIX/bin/vggflow, the program's own folder (a
/// bundle), or the checkout that it was built in; with libvggflow_c.so likewise, from its lib/.
/// `path` itself where that is not there either.
std::filesystem::path find_shipped(const std::filesystem::path& path);

/// The same, but throws where nothing is found. The error begins with "[where]" and names every
/// place that was looked at.
std::filesystem::path require_shipped(const std::filesystem::path& path, const std::string& where);

/// What find_shipped looks at, for errors: "models/nano or /opt/v/share/vggflow/models/nano".
std::string places_of(const std::filesystem::path& path);

}  // namespace vggflow
