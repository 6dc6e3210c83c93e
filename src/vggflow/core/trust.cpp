#include "vggflow/core/trust.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <variant>

#include "vggflow/core/usage_error.h"

namespace vggflow {
namespace {

struct Kind {
  const char* word;
  std::vector<std::string> schemes;
  const char* effect;
};

const std::array<Kind, 3>& kinds() {
  static const std::array<Kind, 3> all{
      {{"plugins", {"plugin:"}, "runs a library's code with your rights"},
       {"torchscript", {"torchscript:"}, "runs a module's code"},
       {"http", {"http:", "https:"}, "sends images and prompts to a server"}}};
  return all;
}

bool names_rewards(const std::string& key) {
  const std::string last = key.substr(key.rfind('.') + 1);
  return last == "reward" || last == "rewards" || last == "panel";
}

bool is_given(const std::string& key, const std::vector<std::string>& given) {
  return std::any_of(given.begin(), given.end(),
                     [&key](const std::string& g) { return g.starts_with(key + "="); });
}

// A scheme at the beginning of a word, so that plugin:/a/http:b is a plug-in alone.
bool mentions(const std::string& text, const std::string& scheme) {
  for (size_t at = text.find(scheme); at != std::string::npos; at = text.find(scheme, at + 1)) {
    if (at == 0 || std::string(" \"'[(*+,").find(text[at - 1]) != std::string::npos) return true;
  }
  return false;
}

bool needs(const Field& field, const Kind& kind, const std::vector<std::string>& given) {
  if (!names_rewards(field.key) || is_given(field.key, given)) return false;
  const std::string value = value_text(field);
  return std::any_of(kind.schemes.begin(), kind.schemes.end(),
                     [&value](const std::string& s) { return mentions(value, s); });
}

void check_words(const CommandLine& line, const std::string& command) {
  for (const std::string& word : line.trust) {
    const bool known = std::any_of(kinds().begin(), kinds().end(),
                                   [&word](const Kind& k) { return word == k.word; });
    if (!known)
      throw UsageError(
          fmt::format("[{}] expected trust=plugins, torchscript or http, or several "
                      "with commas between, got '{}'",
                      command, word));
  }
}

}  // namespace

std::vector<std::string> needed_trust(const Fields& fields, const std::vector<std::string>& given) {
  std::vector<std::string> words;
  for (const Kind& kind : kinds()) {
    const bool needed = std::any_of(fields.begin(), fields.end(),
                                    [&](const Field& f) { return needs(f, kind, given); });
    if (needed) words.emplace_back(kind.word);
  }
  return words;
}

std::string trust_setting(const Fields& fields) {
  const std::vector<std::string> words = needed_trust(fields);
  return words.empty() ? "" : fmt::format(" trust={}", fmt::join(words, ","));
}

void check_trust(const CommandLine& line, const std::string& command, const Fields& fields,
                 const std::vector<std::string>& given) {
  check_words(line, command);
  if (line.file.empty()) return;
  for (const Kind& kind : kinds()) {
    if (std::find(line.trust.begin(), line.trust.end(), kind.word) != line.trust.end()) continue;
    const auto found = std::find_if(fields.begin(), fields.end(),
                                    [&](const Field& f) { return needs(f, kind, given); });
    if (found == fields.end()) continue;
    throw UsageError(fmt::format(
        "[{}] {} says {}: {}, which {}. If you trust it, pass trust={} on the command line",
        command, line.file, found->key, value_text(*found), kind.effect,
        fmt::join(needed_trust(fields, given), ",")));
  }
}

}  // namespace vggflow
