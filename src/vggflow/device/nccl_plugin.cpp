// The plug-in's gathers between GPUs, over c10d's ProcessGroupNCCL.
#include <ATen/core/Tensor.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAGuard.h>
#include <stdlib.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "vggflow/device/guarded.h"
#include "vggflow/device/nccl_api.h"

namespace vggflow::device {
namespace {

using Work = c10::intrusive_ptr<c10d::Work>;

using NcclGroup = c10::intrusive_ptr<c10d::ProcessGroupNCCL>;

c10::DeviceIndex index_of(int32_t device) { return static_cast<c10::DeviceIndex>(device); }
const at::Tensor& tensor_of(const void* tensor) { return *static_cast<const at::Tensor*>(tensor); }
NcclGroup& group_of(void* group) { return *static_cast<NcclGroup*>(group); }

const char* identity(int32_t device, char* text, int64_t size) {
  return guarded([&] {
    const cudaDeviceProp& p = *at::cuda::getDeviceProperties(index_of(device));
    std::string uuid;
    for (const char byte : p.uuid.bytes) {
      char digits[3];
      std::snprintf(digits, sizeof(digits), "%02x", static_cast<unsigned char>(byte));
      uuid += digits;
    }
    std::snprintf(text, static_cast<size_t>(size), "%s", uuid.c_str());
  });
}

const char* open(const void* store, int32_t rank, int32_t size, int32_t device, void** group) {
  return guarded([&] {
    // Whoever waits looks himself whether a rank is gone, and names it: c10d's own watch would end
    // the process without a word of ours.
    ::setenv("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0", /*overwrite=*/0);
    ::setenv("TORCH_NCCL_ENABLE_MONITORING", "0", /*overwrite=*/0);
    const auto& given = *static_cast<const c10::intrusive_ptr<c10d::Store>*>(store);
    const at::Device gpu(at::kCUDA, index_of(device));
    const c10::cuda::CUDAGuard guard(gpu);
    auto made = c10::make_intrusive<c10d::ProcessGroupNCCL>(
        c10::make_intrusive<c10d::PrefixStore>("nccl", given), rank, size,
        c10d::ProcessGroupNCCL::Options::create());
    made->eagerConnectSingleDevice(gpu);
    *group = new NcclGroup(std::move(made));
  });
}

const char* gather(void* group, const void* bytes, const void* into, void** work) {
  return guarded([&] {
    at::Tensor in = tensor_of(bytes), out = tensor_of(into);
    *work = new Work(group_of(group)->_allgather_base(out, in));
  });
}

const char* exchange(void* group, const void* bytes, const void* into, void** work) {
  return guarded([&] {
    at::Tensor in = tensor_of(bytes), out = tensor_of(into);
    std::vector<int64_t> equal_in, equal_out;
    *work = new Work(group_of(group)->alltoall_base(out, in, equal_out, equal_in));
  });
}

const char* poll(void* work, bool* done) {
  return guarded([&] {
    Work& begun = *static_cast<Work*>(work);
    *done = begun->isCompleted();
    if (*done) begun->wait();
  });
}

void free_work(void* work) { delete static_cast<Work*>(work); }

void close(void* group, bool lost) {
  const std::unique_ptr<NcclGroup> owned(static_cast<NcclGroup*>(group));
  (void)guarded([&] { lost ? (*owned)->abort() : (*owned)->shutdown(); });
}

}  // namespace

const NcclApi* nccl_table() {
  static const NcclApi api{&identity, &open, &gather, &exchange, &poll, &free_work, &close};
  return &api;
}

}  // namespace vggflow::device
