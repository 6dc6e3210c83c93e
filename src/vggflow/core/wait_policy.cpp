#include "vggflow/core/wait_policy.h"

#include <cstdlib>

namespace vggflow {

std::string wait_policy() {
  std::string words;
  for (const char* name : kWaitVariables) {
    const char* value = std::getenv(name);
    if (value) words += (words.empty() ? "" : " ") + std::string(name) + "=" + value;
  }
  return words.empty() ? "the runtime's default" : words;
}

}  // namespace vggflow
