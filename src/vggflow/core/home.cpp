#include "vggflow/core/home.h"

#include <pwd.h>
#include <unistd.h>

#include <cctype>
#include <cstdlib>

#include "vggflow/core/error.h"
#include "vggflow/core/secret.h"

namespace vggflow {
namespace {

std::string home() {
  if (const char* variable = std::getenv("HOME"); variable && *variable) return variable;
  const passwd* entry = ::getpwuid(::getuid());
  return entry ? entry->pw_dir : "~";
}

// Whether a user's name may hold the sign: a text such as "~ 5 cats" names none.
bool is_name_sign(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-' || c == '.';
}

// The home folder for the "~" or "~user" at `at`, which is moved behind it; the sign itself where
// it begins no path.
std::string take_home(const std::string& text, size_t& at) {
  size_t end = at + 1;
  while (end < text.size() && is_name_sign(text[end])) ++end;
  const std::string user = text.substr(at + 1, end - at - 1);
  const bool folder = end < text.size() && text[end] == '/';
  const passwd* entry = user.empty() ? nullptr : ::getpwnam(user.c_str());
  const bool ends = folder || end == text.size();
  if (user.empty() ? folder || text == "~" : entry && ends) {
    at = end;
    return user.empty() ? home() : entry->pw_dir;
  }
  VGGFLOW_CHECK(user.empty() || !folder,
                "[config] '{}': there is no user '{}' whose home folder '~{}' could be; write the "
                "path from '/', or './~{}' for a folder of that name",
                without_password(text), user, user, user);
  ++at;
  return "~";
}

}  // namespace

std::string with_home(const std::string& text) {
  std::string out;
  const size_t address = text.find("://");
  for (size_t i = 0; i < text.size();) {
    const bool first = i == 0 || text[i - 1] == '=' || text[i - 1] == ':';
    if (first && i < address && text[i] == '~')
      out += take_home(text, i);
    else
      out += text[i++];
  }
  return out;
}

}  // namespace vggflow
