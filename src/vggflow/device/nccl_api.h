#pragma once
// What the CUDA plug-in offers for gathers between the GPUs of several ranks: a table of C
// functions over c10d's ProcessGroupNCCL. The tests have a table of their own.

#include <cstdint>

namespace vggflow::device {

/// Functions return null, or the text of what went wrong, valid until the thread's next call. No
/// exception crosses them. Tensors are contiguous uint8 ones of the rank's GPU; they stay as they
/// are until the work is done.
struct NcclApi {
  /// Which GPU this is, among those of all hosts that share it or not (its UUID), as a text.
  const char* (*identity)(int32_t device, char* text, int64_t size);
  /// Meets the other ranks; all call it. `store` is a c10::intrusive_ptr<c10d::Store>.
  const char* (*open)(const void* store, int32_t rank, int32_t size, int32_t device, void** group);
  /// Begins to gather `bytes` (n) of all ranks into `into` (size * n), by rank, after what the
  /// current stream was asked for. Both are at::Tensor.
  const char* (*gather)(void* group, const void* bytes, const void* into, void** work);
  /// Begins to send the r-th n bytes of `bytes` (size * n) to rank r; `into` is what came, by rank.
  const char* (*exchange)(void* group, const void* bytes, const void* into, void** work);
  /// Whether work is done, without waiting; then the current stream finds its result.
  const char* (*poll)(void* work, bool* done);
  void (*free_work)(void* work);
  /// Ends the group; `lost`: a rank is gone, and nobody is waited for.
  void (*close)(void* group, bool lost);
};

}  // namespace vggflow::device
