#pragma once
// An MMDiT as a flow's network. Its conventions end here: it takes the timestep 1000 (1 - t) and
// predicts u = noise - data, so v(x, t) = -u(x, 1000 (1 - t)).

#include <memory>
#include <string>
#include <utility>

#include "vggflow/families/sd3/mmdit.h"
#include "vggflow/flow/flow_model.h"

namespace vggflow {

/// v (B, C, H, W) at t (B) in [0, 1].
Tensor mmdit_velocity(const Mmdit& network, const Tensor& x, const Tensor& t,
                      const Conditioning& conditioning);
Dual mmdit_velocity(const Mmdit& network, const Dual& x, const Dual& t,
                    const Conditioning& conditioning);
/// Of a network with adapters: (v without them, what they change of it).
Pair mmdit_velocity_pair(const Mmdit& network, const Tensor& x, const Tensor& t,
                         const Conditioning& conditioning);
NetworkInputs mmdit_inputs(const MmditOptions& options);
/// Shares the tensors of `network` (FlowNetwork::view).
std::unique_ptr<FlowNetwork> mmdit_view(const Mmdit& network);
/// The sizes of FlowNetwork::small: heads of 32 channels, and the dual blocks that it still has.
MmditOptions small_mmdit_options(int64_t width, int64_t layers, int64_t states,
                                 const MmditOptions& like);
std::unique_ptr<FlowNetwork> small_mmdit(const MmditOptions& options, uint64_t seed);

/// What a FlowNetwork or a FlowModel (`Base`) asks of its network, answered by an MMDiT.
template <class Base>
class OnMmdit : public Base {
 public:
  virtual Mmdit& mmdit() = 0;
  virtual const Mmdit& mmdit() const = 0;
  Tensor velocity(const Tensor& x, const Tensor& t, const Conditioning& c) const override {
    return mmdit_velocity(mmdit(), x, t, c);
  }
  Dual velocity(const Dual& x, const Dual& t, const Conditioning& c) const override {
    return mmdit_velocity(mmdit(), x, t, c);
  }
  bool computes_narrow() const override { return mmdit().compute == at::kBFloat16; }
  Pair velocity_pair(const Tensor& x, const Tensor& t, const Conditioning& c) const override {
    return mmdit_velocity_pair(mmdit(), x, t, c);
  }
  NetworkInputs inputs() const override { return mmdit_inputs(mmdit().options); }
  Module& network() override { return mmdit(); }
  const Module& network() const override { return mmdit(); }
  std::string output_layer() const override { return "proj_out"; }
  std::unique_ptr<FlowNetwork> view() const override { return mmdit_view(mmdit()); }
  std::unique_ptr<FlowNetwork> small(int64_t width, int64_t layers, int64_t states,
                                     uint64_t seed) const override {
    return small_mmdit(small_mmdit_options(width, layers, states, mmdit().options), seed);
  }
  void count_passes(std::shared_ptr<PassCounter> counter) override {
    mmdit().passes = std::move(counter);
  }
};

/// An MMDiT of its own.
class MmditNetwork : public OnMmdit<FlowNetwork> {
 public:
  explicit MmditNetwork(std::unique_ptr<Mmdit> network) : network_(std::move(network)) {}
  Mmdit& mmdit() override { return *network_; }
  const Mmdit& mmdit() const override { return *network_; }

 private:
  std::unique_ptr<Mmdit> network_;
};

}  // namespace vggflow
