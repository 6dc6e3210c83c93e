#include "vggflow/core/home.h"

#include <pwd.h>
#include <unistd.h>

#include <cstdlib>

namespace vggflow {
namespace {

std::string home() {
  if (const char* variable = std::getenv("HOME"); variable && *variable) return variable;
  const passwd* entry = ::getpwuid(::getuid());
  return entry ? entry->pw_dir : "~";
}

}  // namespace

std::string with_home(const std::string& text) {
  if (text == "~") return home();
  std::string out;
  const size_t address = text.find("://");
  for (size_t i = 0; i < text.size(); ++i) {
    const bool first = i == 0 || text[i - 1] == '=' || text[i - 1] == ':';
    if (first && i < address && text.compare(i, 2, "~/") == 0)
      out += home();
    else
      out += text[i];
  }
  return out;
}

}  // namespace vggflow
