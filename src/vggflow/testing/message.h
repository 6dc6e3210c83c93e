#pragma once
// What a refusal says: tests assert the message, not only the throw.

#include <functional>
#include <string>

#include "vggflow/core/error.h"

namespace vggflow::testing {

/// The message of the Error that f throws, or "no error".
inline std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

}  // namespace vggflow::testing
