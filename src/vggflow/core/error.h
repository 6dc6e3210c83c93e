#pragma once
// The one exception type of the libraries. Only main catches, prints and exits; a message says
// where, what was expected, what was found and, for files, what to do next: "[clip_score] expected
// image (B, 3, 224, 224), got (2, 4, 64, 64)".

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace vggflow {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Throws `Error` with the formatted message.
template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace vggflow

/// Throws `Error` with the formatted message unless `condition` holds; the arguments are evaluated
/// only on failure.
#define VGGFLOW_CHECK(condition, ...)               \
  do {                                              \
    if (!(condition)) ::vggflow::fail(__VA_ARGS__); \
  } while (false)
