#include "vggflow/io/hub_cache.h"

#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <regex>

namespace vggflow {
namespace fs = std::filesystem;
namespace {

std::string home_of(const std::string& user) {
  const char* home = std::getenv("HOME");
  if (user.empty() && home) return home;
  const passwd* entry = user.empty() ? ::getpwuid(::getuid()) : ::getpwnam(user.c_str());
  return entry ? entry->pw_dir : "";
}

std::string with_home(const std::string& text) {
  if (!text.starts_with('~')) return text;
  const size_t end = std::min(text.find('/'), text.size());
  std::string home = home_of(text.substr(1, end - 1));
  if (home.empty()) return text;
  while (home.ends_with('/')) home.pop_back();
  const std::string all = home + text.substr(end);
  return all.empty() ? "/" : all;
}

std::optional<std::string> environment(const char* name) {
  const char* value = std::getenv(name);
  return value && *value ? std::optional<std::string>(value) : std::nullopt;
}

}  // namespace

fs::path expand_path(const std::string& text) {
  static const std::regex variable(R"(\$([A-Za-z0-9_]+|\{[^}]*\}))");
  const std::string all = with_home(text);
  std::string out;
  size_t done = 0;
  for (auto it = std::sregex_iterator(all.begin(), all.end(), variable);
       it != std::sregex_iterator(); ++it) {
    std::string name = it->str(1);
    if (name.starts_with('{')) name = name.substr(1, name.size() - 2);
    const char* value = std::getenv(name.c_str());
    const auto at = static_cast<size_t>(it->position());
    out += all.substr(done, at - done) + (value ? std::string(value) : it->str());
    done = at + static_cast<size_t>(it->length());
  }
  return out + all.substr(done);
}

fs::path hub_cache() {
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}) {
    if (const auto cache = environment(name)) return expand_path(*cache);
  }
  if (const auto home = environment("HF_HOME")) return expand_path(*home) / "hub";
  if (const auto cache = environment("XDG_CACHE_HOME"))
    return expand_path(*cache) / "huggingface/hub";
  return expand_path("~/.cache/huggingface/hub");
}

}  // namespace vggflow
