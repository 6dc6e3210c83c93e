#include "vggflow/core/secret.h"

#include <algorithm>
#include <functional>
#include <map>
#include <mutex>

namespace vggflow {
namespace {

std::mutex mutex;
std::map<std::string, std::string>& kept() {  // address up to its query -> "user:password@"
  static std::map<std::string, std::string> all;
  return all;
}

// Removes every "user:password@"; `took` hears of the address before and the part that went.
std::string stripped(const std::string& text,
                     const std::function<void(const std::string&, const std::string&)>& took) {
  constexpr const char* kEndOfHost = "/?# \t\n\"'";
  constexpr const char* kEndOfPath = "?# \t\n\"'(),]";
  std::string out;
  size_t from = 0;
  for (size_t mark = text.find("://"); mark != std::string::npos; mark = text.find("://", from)) {
    const size_t host = mark + 3, end = std::min(text.find_first_of(kEndOfHost, host), text.size());
    out += text.substr(from, host - from);
    from = host;
    const size_t at = end == host ? std::string::npos : text.rfind('@', end - 1);
    if (at == std::string::npos || at < host) continue;
    from = at + 1;
    const size_t scheme = text.find_last_of(" \t\n\"'(*=[,", mark);
    const size_t first = scheme == std::string::npos ? 0 : scheme + 1;
    const size_t path = std::min(text.find_first_of(kEndOfPath, from), text.size());
    took(text.substr(first, host - first) + text.substr(from, path - from),
         text.substr(host, from - host));
  }
  return out + text.substr(from);
}

// Whether a path from the root begins here: not "//" of a server's address, nor the middle of a
// relative path.
bool begins_path(const std::string& text, size_t at) {
  if (text[at] != '/' || (at + 1 < text.size() && text[at + 1] == '/')) return false;
  return at == 0 || std::string(" \t\n\"'(*=:[,").find(text[at - 1]) != std::string::npos;
}

// A path may hold spaces; it ends where an expression goes on or a list's entry ends.
size_t end_of_path(const std::string& text, size_t from) {
  return std::min({text.find_first_of("?#\"'),]\n", from), text.find(" + ", from), text.size()});
}

}  // namespace

std::string without_folders(const std::string& text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    if (!begins_path(text, at)) {
      out += text[at++];
      continue;
    }
    const size_t end = end_of_path(text, at);
    size_t last = end;
    while (last > at + 1 && text[last - 1] == '/') --last;  // "/a/b/" is b
    const size_t name = text.rfind('/', last - 1) + 1;
    out += text.substr(name, last - name);
    at = end;
  }
  return out;
}

std::string without_password(const std::string& text) {
  return stripped(text, [](const std::string&, const std::string&) {});
}

std::string keep_password(const std::string& text) {
  return stripped(text, [](const std::string& address, const std::string& part) {
    const std::lock_guard lock(mutex);
    kept()[address] = part;
  });
}

std::string with_password(const std::string& address) {
  const std::lock_guard lock(mutex);
  std::string longest, part;
  for (const auto& [known, taken] : kept()) {
    const bool whole = address.starts_with(known) &&
                       std::string("/?#").find(address.c_str()[known.size()]) != std::string::npos;
    if ((whole || address == known) && known.size() > longest.size()) {
      longest = known;
      part = taken;
    }
  }
  const size_t mark = address.find("://");
  if (longest.empty() || mark == std::string::npos) return address;
  return address.substr(0, mark + 3) + part + address.substr(mark + 3);
}

}  // namespace vggflow
