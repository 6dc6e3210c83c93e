#pragma once
// JSON of strangers: model folders, LoRA headers, lists, a judge's answers, files of earlier runs.
// All of it is parsed here, with a bound: a value that is nested a hundred thousand levels deep
// parses well and then overflows the stack of whatever walks, copies or prints it.

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "vggflow/core/error.h"

namespace vggflow {

/// Levels of arrays and objects that a text may hold; files in use have fewer than ten.
inline constexpr size_t kDeepestJson = 64;

/// The deepest level of arrays and objects in `text`, counted without parsing it; of what is not
/// JSON, at least as many as the part before the fault has.
size_t json_depth(std::string_view text);

/// The value of a text, or a discarded one (is_discarded()) where it is not JSON or nested deeper
/// than kDeepestJson.
template <class J = nlohmann::ordered_json>
J try_parse_json(std::string_view text) {
  if (json_depth(text) > kDeepestJson) return J(J::value_t::discarded);
  return J::parse(text, nullptr, /*allow_exceptions=*/false);
}

/// The same; throws an Error that names `origin` where it is neither.
template <class J = nlohmann::ordered_json>
J parse_json(std::string_view text, const std::string& origin) {
  const size_t depth = json_depth(text);
  VGGFLOW_CHECK(depth <= kDeepestJson,
                "[json] {} is nested {} levels deep, expected at most {}: it is damaged or made to "
                "do harm; get it again",
                origin, depth, kDeepestJson);
  try {
    return J::parse(text);
  } catch (const nlohmann::json::exception& e) {
    fail("[json] {} is not JSON: {}", origin, e.what());
  }
}

/// The text of a value, with `indent` spaces a level (-1: one line). What is not UTF-8 in it, as a
/// path or a prompt may hold, becomes U+FFFD: a summary is never lost for a file's name. `ascii`:
/// all other signs as \u escapes.
template <class J>
std::string json_text(const J& value, int indent = -1, bool ascii = false) {
  return value.dump(indent, ' ', ascii, J::error_handler_t::replace);
}

/// Whether a text is UTF-8, which JSON holds alone.
bool is_utf8(std::string_view text);

}  // namespace vggflow
