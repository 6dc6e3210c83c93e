#include "vggflow/core/module_file.h"

#include <dlfcn.h>
#include <link.h>

#include <string>
#include <system_error>

namespace vggflow {
namespace {

// As the dynamic linker knows it; the program itself has no name there.
std::string linked_name() {
  Dl_info info{};
  void* entry = nullptr;
  const int found =
      ::dladdr1(reinterpret_cast<const void*>(&module_file), &info, &entry, RTLD_DL_LINKMAP);
  return found != 0 && entry ? static_cast<link_map*>(entry)->l_name : "";
}

}  // namespace

std::filesystem::path module_file() {
  std::error_code unknown;
  const std::string name = linked_name();
  return name.empty() ? std::filesystem::read_symlink("/proc/self/exe", unknown)
                      : std::filesystem::canonical(name, unknown);
}

bool in_shared_library() { return !linked_name().empty(); }

}  // namespace vggflow
