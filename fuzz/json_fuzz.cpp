// Any bytes given to the parser of foreign JSON end in a value that can be copied, printed and read
// back, or in an Error: no crash, no other exception, no overflow of the stack.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "fuzz.h"
#include "vggflow/core/error.h"
#include "vggflow/core/json.h"

bool fuzz_accepted = false;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using Json = nlohmann::ordered_json;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  fuzz_accepted = false;
  try {
    const Json value = vggflow::parse_json(text, "fuzz"), copy = value;
    const std::string printed = copy.dump(-1, ' ', false, Json::error_handler_t::replace);
    if (vggflow::json_depth(printed) > vggflow::kDeepestJson) std::abort();
    if (vggflow::parse_json(printed, "fuzz").dump(-1, ' ', false, Json::error_handler_t::replace) !=
        printed)
      std::abort();
    fuzz_accepted = true;
  } catch (const vggflow::Error&) {
  }
  if (vggflow::try_parse_json(text).is_discarded() == fuzz_accepted) std::abort();
  return 0;
}
