#pragma once
// How the bytes of ranks come to one another. One file knows c10d (gloo_transport.cpp).

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "vggflow/dist/nccl_ranks.h"
#include "vggflow/dist/place.h"
#include "vggflow/ops/dual.h"

namespace vggflow {

class Transport {
 public:
  virtual ~Transport() = default;
  /// Whether begin_gather and exchange take what lies there as it is; the CPU's they take always.
  virtual bool takes(at::Device device) const { return device.is_cpu(); }
  /// The (n) uint8 tensors of all ranks, on the CPU, by rank; n is the same on all. Throws Error,
  /// naming the ranks that are gone, where one ended or did not answer in time.
  virtual std::vector<Tensor> gather(const Tensor& bytes) = 0;
  /// Begins to gather the (n) uint8 tensors of all ranks into one (size * n), by rank. The call
  /// that it returns waits for the end. Both tensors stay as they are until then.
  virtual std::function<void()> begin_gather(const Tensor& bytes, const Tensor& into) = 0;
  /// Of (size * n) uint8, the r-th n bytes go to rank r; gives what all ranks sent to this one, by
  /// rank.
  virtual Tensor exchange(const Tensor& bytes) = 0;
  /// Leaves word of why this rank ends, for the others' errors.
  virtual void leave_word(const std::string& text) = 0;
};

/// All ranks of a place with more than one, met at its address over Gloo. What lies on GPUs goes
/// through NCCL where each rank has one of its own and gpu.backend allows it; kNccl throws where
/// one has not. Throws where some ranks do not come within `timeout`, naming them. `timeout` bounds
/// every gather too.
std::unique_ptr<Transport> open_gloo(const Place& place, std::chrono::milliseconds timeout,
                                     const GpuRank& gpu);

}  // namespace vggflow
