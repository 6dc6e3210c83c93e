#include "vggflow/device/error_text.h"

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <new>

#include "vggflow/core/listing.h"

namespace vggflow {
namespace {

constexpr const char* kRemedy =
    "lower batch or micro_batch (fewer samples at once), set checkpointing=true (activations are "
    "computed again) or precision=bf16; `vggflow plan` says what a run needs";

std::string what(const std::exception& e) {
  const auto* error = dynamic_cast<const c10::Error*>(&e);
  return error ? error->what_without_backtrace() : e.what();
}

// The allocator's sentences up to what is free; advice on its own settings follows them.
std::string numbers_of(const std::string& text) {
  const std::string end = " is free.";
  const size_t at = text.find(end);
  return at == std::string::npos ? text : text.substr(0, at + end.size() - 1);
}

bool is_host_full(const std::exception& e, const std::string& text) {
  return dynamic_cast<const std::bad_alloc*>(&e) ||
         text.find("can't allocate memory") != std::string::npos;
}

}  // namespace

std::string error_text(const std::exception& e) {
  const std::string text = what(e);
  if (dynamic_cast<const c10::OutOfMemoryError*>(&e))
    return fmt::format("[memory] the device is full ({}): {}", numbers_of(text), kRemedy);
  if (is_host_full(e, text))
    return fmt::format("[memory] the host's memory is full ({}): {}", text, kRemedy);
  return bounded_message(text);
}

}  // namespace vggflow
