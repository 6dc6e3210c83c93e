#include "vggflow/device/error_text.h"

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <new>

namespace vggflow {
namespace {

constexpr const char* kRemedy =
    "lower batch or micro_batch (fewer samples at once; eval.batch, fit.batch and the like in "
    "other "
    "commands), in training set checkpointing=true (activations are computed again), or "
    "precision=bf16; `vggflow plan` says what a run of align needs";

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

bool holds(const std::string& text, std::initializer_list<const char*> pieces) {
  return std::any_of(pieces.begin(), pieces.end(),
                     [&](const char* piece) { return text.find(piece) != std::string::npos; });
}

// CUDA's own calls and libraries say it in words of theirs.
bool is_device_full(const std::exception& e, const std::string& text) {
  return dynamic_cast<const c10::OutOfMemoryError*>(&e) ||
         holds(text, {"CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED",
                      "CUDNN_STATUS_ALLOC_FAILED", "CUSOLVER_STATUS_ALLOC_FAILED"});
}

bool is_host_full(const std::exception& e, const std::string& text) {
  return dynamic_cast<const std::bad_alloc*>(&e) ||
         holds(text, {"can't allocate memory", "DefaultCPUAllocator: not enough memory",
                      "Cannot allocate memory"});
}

// Its first line, which tells what was asked for.
std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

}  // namespace

std::string error_text(const std::exception& e) {
  const std::string text = what(e);
  if (is_device_full(e, text))
    return fmt::format("[memory] the device is full ({}): {}", first_line(numbers_of(text)),
                       kRemedy);
  if (is_host_full(e, text))
    return fmt::format("[memory] the host's memory is full ({}): {}", first_line(text), kRemedy);
  return text;
}

}  // namespace vggflow
