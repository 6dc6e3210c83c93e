#pragma once
// Gathers from GPU to GPU, through the plug-in's NCCL.

#include <c10/core/Device.h>

#include <chrono>
#include <functional>
#include <string>

#include "vggflow/device/nccl_api.h"
#include "vggflow/dist/options.h"
#include "vggflow/ops/dual.h"

namespace vggflow {

/// The GPU of a rank, for gathers.
struct GpuRank {
  Backend backend = Backend::kAuto;
  const device::NcclApi* api = nullptr;  ///< of the plug-in; null: there is none, or no GPU
  at::Device device = at::kCPU;
};

class NcclRanks {
 public:
  /// All ranks make theirs. `store` is a c10::intrusive_ptr<c10d::Store>. Throws Error with NCCL's
  /// words.
  NcclRanks(const GpuRank& gpu, const void* store, int rank, int size,
            std::chrono::milliseconds timeout);
  ~NcclRanks();
  NcclRanks(const NcclRanks&) = delete;
  NcclRanks& operator=(const NcclRanks&) = delete;

  bool takes(at::Device device) const { return device.type() == gpu_.device.type(); }
  /// As Transport::begin_gather, of uint8 tensors on the GPU. The call that it returns throws where
  /// the end does not come in time: which rank is gone is for others to find.
  std::function<void()> begin_gather(const Tensor& bytes, const Tensor& into);
  /// The r-th n bytes go to rank r, into its `into`.
  void exchange(const Tensor& bytes, const Tensor& into);
  /// A rank is gone: nobody is waited for at the end.
  void give_up() { lost_ = true; }

 private:
  using Begin = const char* (*)(void* group, const void* bytes, const void* into, void** work);
  std::function<void()> begin(Begin operation, const Tensor& bytes, const Tensor& into);
  void wait(void* work) const;

  GpuRank gpu_;
  std::chrono::milliseconds timeout_;
  void* group_ = nullptr;
  bool lost_ = false;
};

/// Which GPU is this rank's, as a text that tells it from all others; empty: none.
std::string identity_of(const GpuRank& gpu);

}  // namespace vggflow
