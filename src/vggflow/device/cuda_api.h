#pragma once
// What the plug-in libvggflow_cuda.so offers the program: one table of C functions. Nothing of CUDA
// is named here, so that the program compiles without its toolkit and runs without its libraries.

#include <cstdint>

#include "vggflow/device/nccl_api.h"

namespace vggflow::kernels {
struct DeviceTable;  // kernels/device_table.h: fused kernels on raw pointers and a stream
}

namespace vggflow::device {

/// Raised with every change of CudaApi, NcclApi or kernels::DeviceTable: a plug-in of another build
/// is refused.
inline constexpr int32_t kCudaAbi = 2;

/// Bytes on one device: what LibTorch's caching allocator holds, and what the card has.
struct CudaMemory {
  int64_t allocated;       ///< by tensors, now
  int64_t peak_allocated;  ///< by tensors, at most since reset_peak
  int64_t peak_reserved;   ///< taken from the driver, at most since reset_peak
  int64_t free, total;     ///< of the card, for all processes
};

/// Functions return null, or the text of what went wrong, valid until the thread's next call. No
/// exception crosses them. `device` counts from 0 as in cuda:N.
struct CudaApi {
  int32_t abi;                ///< kCudaAbi of the plug-in's build
  const char* torch_version;  ///< TORCH_VERSION of the plug-in's build, such as 2.11.0
  const char* cuda_version;   ///< of the toolkit that built it, such as 13.0
  /// Card, compute capability, multiprocessors, driver, cuDNN: one line.
  const char* (*describe)(int32_t device, char* text, int64_t size);
  const char* (*memory)(int32_t device, CudaMemory* out);
  const char* (*reset_peak)(int32_t device);
  /// The current stream (a cudaStream_t), which the kernels are launched on.
  void* (*stream)(int32_t device);
  /// Marks a range for profilers (NVTX); push and pop nest.
  void (*range_push)(const char* name);
  void (*range_pop)();
  const kernels::DeviceTable* kernels;  ///< null: compositions of LibTorch's kernels alone
  /// Runs work(context) four times on a stream of its own, the last time into a graph that
  /// graph_replay launches as one. What it reads and writes must stay where it is.
  const char* (*graph_capture)(void (*work)(void*), void* context, void** graph);
  const char* (*graph_replay)(void* graph);
  void (*graph_free)(void* graph);
  const NcclApi* nccl;  ///< gathers between the GPUs of several ranks; null: built without
};

/// The one symbol of the plug-in.
inline constexpr const char* kCudaApiSymbol = "vggflow_cuda_api";
using CudaApiFunction = const CudaApi* (*)();

}  // namespace vggflow::device
