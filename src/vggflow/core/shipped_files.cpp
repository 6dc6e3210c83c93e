#include "vggflow/core/shipped_files.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <system_error>
#include <vector>

#include "vggflow/core/error.h"
#include "vggflow/core/module_file.h"

namespace vggflow {
namespace fs = std::filesystem;
namespace {

// The folders that hold models/ and configs/ for the program that runs, or for the library in a
// program of others.
std::vector<fs::path> roots() {
  std::error_code unknown;
  const fs::path folder = module_file().parent_path();
  if (folder.filename() == "bin") return {folder.parent_path() / "share/vggflow"};
  std::vector<fs::path> all;
  if (!in_shared_library()) {
    all.push_back(folder);
  } else {
    // A bundle's or a wheel's lib/; PREFIX/lib or PREFIX/lib/x86_64-linux-gnu.
    for (const char* root : {"..", "../share/vggflow", "../../share/vggflow"}) {
      const fs::path place = (folder / root).lexically_normal();
      if (fs::exists(place / "models", unknown)) all.push_back(place);
    }
  }
  for (fs::path above = folder; above.has_relative_path(); above = above.parent_path()) {
    if (fs::exists(above / "CMakePresets.json", unknown)) all.push_back(above);
  }
  return all;
}

std::vector<fs::path> candidates(const fs::path& path) {
  std::vector<fs::path> all{path};
  const bool ships = !path.empty() && (*path.begin() == "models" || *path.begin() == "configs");
  if (!ships) return all;
  for (const fs::path& root : roots()) all.push_back(root / path);
  return all;
}

}  // namespace

fs::path find_shipped(const fs::path& path) {
  for (const fs::path& candidate : candidates(path)) {
    std::error_code unknown;
    if (fs::exists(candidate, unknown)) return candidate;
  }
  return path;
}

fs::path require_shipped(const fs::path& path, const std::string& where) {
  fs::path found = find_shipped(path);
  VGGFLOW_CHECK(fs::exists(found), "[{}] expected a file or folder at {}, found none", where,
                places_of(path));
  return found;
}

std::string places_of(const fs::path& path) {
  std::vector<std::string> names;
  for (const fs::path& candidate : candidates(path)) names.push_back(candidate.string());
  return fmt::format("{}", fmt::join(names, " or "));
}

}  // namespace vggflow
