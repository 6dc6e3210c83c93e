// The plug-in libvggflow_cuda.so: everything that needs the C++ symbols of torch_cuda, c10_cuda or
// cudart, behind one table of C functions (cuda_api.h). The program opens it at run time and never
// links it.
#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAGraph.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime.h>
#include <nvtx3/nvToolsExt.h>
#include <torch/headeronly/version.h>

#include <cstdio>
#include <memory>
#include <string>

#include "vggflow/device/cuda_api.h"
#include "vggflow/device/guarded.h"

namespace vggflow {

namespace kernels {
const DeviceTable* cuda_table(void* (*stream)());  // device_kernels.cu
}

namespace device {

#ifdef USE_C10D_NCCL
const NcclApi* nccl_table();  // nccl_plugin.cpp
#else
const NcclApi* nccl_table() { return nullptr; }
#endif

namespace {

c10::DeviceIndex index_of(int32_t device) { return static_cast<c10::DeviceIndex>(device); }

std::string dotted(int version, int major_unit, int minor_unit) {
  return std::to_string(version / major_unit) + "." +
         std::to_string(version % major_unit / minor_unit);
}

const char* describe(int32_t device, char* text, int64_t size) {
  return guarded([&] {
    const cudaDeviceProp& p = *at::cuda::getDeviceProperties(index_of(device));
    int driver = 0;
    C10_CUDA_CHECK(cudaDriverGetVersion(&driver));
    const long cudnn = at::detail::getCUDAHooks().versionCuDNN();
    std::snprintf(
        text, static_cast<size_t>(size),
        "%s, compute capability %d.%d, %d multiprocessors, driver for CUDA %s, cuDNN %s", p.name,
        p.major, p.minor, p.multiProcessorCount, dotted(driver, 1000, 10).c_str(),
        (dotted(static_cast<int>(cudnn), 10000, 100) + "." + std::to_string(cudnn % 100)).c_str());
  });
}

const char* memory(int32_t device, CudaMemory* out) {
  return guarded([&] {
    const c10::cuda::CUDAGuard guard(index_of(device));
    const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(index_of(device));
    const auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    size_t free = 0, total = 0;
    C10_CUDA_CHECK(cudaMemGetInfo(&free, &total));
    *out = {stats.allocated_bytes[all].current, stats.allocated_bytes[all].peak,
            stats.reserved_bytes[all].peak, static_cast<int64_t>(free),
            static_cast<int64_t>(total)};
  });
}

const char* reset_peak(int32_t device) {
  return guarded([&] { c10::cuda::CUDACachingAllocator::resetPeakStats(index_of(device)); });
}

void* stream(int32_t device) { return c10::cuda::getCurrentCUDAStream(index_of(device)).stream(); }
void* current_stream() { return c10::cuda::getCurrentCUDAStream().stream(); }

void range_push(const char* name) { nvtxRangePushA(name); }
void range_pop() { nvtxRangePop(); }

// A graph must be captured on a stream that is not the default one, after its libraries have made
// their workspaces.
constexpr int kWarmUps = 3;

const char* graph_capture(void (*work)(void*), void* context, void** graph) {
  return guarded([&] {
    auto made = std::make_unique<at::cuda::CUDAGraph>();
    const c10::cuda::CUDAStream outside = c10::cuda::getCurrentCUDAStream(),
                                side = c10::cuda::getStreamFromPool();
    outside.synchronize();
    const c10::cuda::CUDAStreamGuard guard(side);
    for (int i = 0; i < kWarmUps; ++i) work(context);
    side.synchronize();
    made->capture_begin();
    work(context);
    made->capture_end();
    *graph = made.release();
  });
}
const char* graph_replay(void* graph) {
  return guarded([&] { static_cast<at::cuda::CUDAGraph*>(graph)->replay(); });
}
void graph_free(void* graph) { delete static_cast<at::cuda::CUDAGraph*>(graph); }

const std::string& toolkit() {
  static const std::string version = dotted(CUDART_VERSION, 1000, 10);
  return version;
}

}  // namespace
}  // namespace device
}  // namespace vggflow

extern "C" __attribute__((visibility("default"))) const vggflow::device::CudaApi*
vggflow_cuda_api() {
  using namespace vggflow::device;
  static const CudaApi api{kCudaAbi,          TORCH_VERSION,
                           toolkit().c_str(), &describe,
                           &memory,           &reset_peak,
                           &stream,           &range_push,
                           &range_pop,        vggflow::kernels::cuda_table(&current_stream),
                           &graph_capture,    &graph_replay,
                           &graph_free,       nccl_table()};
  return &api;
}
