#pragma once
// How the bytes of ranks come to one another. One file knows c10d (gloo_transport.cpp).

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "vggflow/dist/place.h"
#include "vggflow/ops/dual.h"

namespace vggflow {

class Transport {
 public:
  virtual ~Transport() = default;
  /// The (n) uint8 tensors of all ranks, by rank; n is the same on all. Throws Error, naming the
  /// ranks that are gone, where one ended or did not answer in time.
  virtual std::vector<Tensor> gather(const Tensor& bytes) = 0;
  /// Leaves word of why this rank ends, for the others' errors.
  virtual void leave_word(const std::string& text) = 0;
};

/// All ranks of a place with more than one, met at its address. Throws where some do not come
/// within `timeout`, naming them. `timeout` bounds every gather too.
std::unique_ptr<Transport> open_gloo(const Place& place, std::chrono::milliseconds timeout);

}  // namespace vggflow
