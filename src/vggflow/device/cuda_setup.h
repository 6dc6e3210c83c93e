#pragma once
// Parts of opening CUDA that the tests hold by themselves.

#include "vggflow/device/cuda_api.h"
#include "vggflow/device/device.h"

namespace vggflow::device {

/// While one lives, this table is the plug-in.
class PluginScope {
 public:
  explicit PluginScope(const CudaApi& api);
  ~PluginScope();
  PluginScope(const PluginScope&) = delete;
  PluginScope& operator=(const PluginScope&) = delete;

 private:
  const CudaApi* before_;
};

/// Which of LibTorch's kernels a run on CUDA takes: attention by cuDNN's, flash, then the
/// memory-efficient ones, never by the plain formula, and what the options say.
void set_up_cuda(const DeviceOptions& options);

}  // namespace vggflow::device
