// A library that answers as NVIDIA's driver, LibTorch's CUDA library and our plug-in do, with what
// environment variables say: the refusals of device/open_cuda.cpp are tested with it.
#include <ATen/detail/CUDAHooksInterface.h>
#include <torch/headeronly/version.h>

#include <cstdio>
#include <cstdlib>

#include "vggflow/device/cuda_api.h"

namespace at {
namespace {

int number(const char* name, int otherwise) {
  const char* const text = std::getenv(name);
  return text ? std::atoi(text) : otherwise;
}

struct FakeHooks : CUDAHooksInterface {
  explicit FakeHooks(CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return number("FAKE_TORCH_HAS_CUDA", 1) != 0; }
  long versionCUDART() const override { return 13000; }
};

C10_REGISTER_TYPED_CLASS(CUDAHooksRegistry, "CUDAHooks", FakeHooks);

}  // namespace
}  // namespace at

using at::number;

extern "C" {

int cuInit(unsigned) { return number("FAKE_CUDA_INIT", 0); }
int cuDriverGetVersion(int* version) {
  *version = number("FAKE_CUDA_VERSION", 13000);
  return 0;
}
int cuDeviceGetCount(int* count) {
  *count = number("FAKE_CUDA_COUNT", 1);
  return 0;
}
int cuDeviceGet(int* device, int index) {
  *device = index;
  return 0;
}
int cuDeviceGetName(char* name, int size, int) {
  std::snprintf(name, static_cast<size_t>(size), "A card of paper");
  return 0;
}
int cuDeviceTotalMem_v2(size_t* bytes, int) {
  *bytes = size_t{24} << 30;
  return 0;
}
int cuDeviceGetAttribute(int* value, int which, int) {
  constexpr int kMajor = 75;
  *value = which == kMajor ? number("FAKE_CUDA_MAJOR", 9) : 0;
  return 0;
}

const vggflow::device::CudaApi* vggflow_cuda_api() {
  static vggflow::device::CudaApi api{};
  api.abi = number("FAKE_PLUGIN_ABI", vggflow::device::kCudaAbi);
  const char* const torch = std::getenv("FAKE_PLUGIN_TORCH");
  api.torch_version = torch ? torch : TORCH_VERSION;
  return &api;
}

}  // extern "C"
