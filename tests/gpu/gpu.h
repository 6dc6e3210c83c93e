#pragma once
// What the tests with the label gpu share: a GPU, opened before anything else asks for CUDA, or the
// reason why there is none. The programs run outside their build tree: libvggflow_cuda.so lies
// beside them or in lib/, data are made by code.

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "vggflow/core/error.h"
#include "vggflow/device/device.h"

namespace vggflow::testing {

/// Full fp32 products, so that the CPU's numbers can be held against. VGGFLOW_GPU_TEST_DEVICE:
/// another device than CUDA's, for a dry run.
inline DeviceOptions gpu_options() {
  const char* const other = std::getenv("VGGFLOW_GPU_TEST_DEVICE");
  return {.device = other ? other : "cuda", .tf32 = false};
}

/// Why there is no GPU here; empty where there is one.
inline const std::string& missing_gpu() {
  static const std::string reason = [] {
    try {
      const DeviceScope scope(gpu_options());
      return std::string();
    } catch (const Error& e) {
      return std::string(e.what());
    }
  }();
  return reason;
}

/// A test that is left out, with the reason, where there is no GPU.
class OnGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!missing_gpu().empty()) GTEST_SKIP() << "left out: " << missing_gpu();
    scope_ = std::make_unique<DeviceScope>(gpu_options());
  }
  at::Device gpu() const { return scope_->device(); }

 private:
  std::unique_ptr<DeviceScope> scope_;
};

/// The same for what CUDA and the plug-in do: another device is left out too.
class OnCuda : public OnGpu {
 protected:
  void SetUp() override {
    OnGpu::SetUp();
    if (!IsSkipped() && !gpu().is_cuda()) GTEST_SKIP() << "left out: this asks for CUDA";
  }
};

}  // namespace vggflow::testing
