#pragma once
// A frozen base network with low-rank adapters, as three networks that share its tensors: the base
// itself, the policy (adapters beside the weights, trained) and the merged one (adapters inside the
// weights, without gradient). None of them is a mode of another, so a graph that one of them made
// does not depend on what runs later.

#include <memory>
#include <string>
#include <vector>

#include "vggflow/flow/flow_model.h"
#include "vggflow/nn/lora.h"

namespace vggflow {

class AdaptedFlow {
 public:
  /// Fresh adapters on the layers of `base` that match the targets; `base` must outlive this.
  AdaptedFlow(const FlowNetwork& base, const LoraOptions& options, uint64_t seed);
  /// Given adapters; all must fit.
  AdaptedFlow(const FlowNetwork& base, const std::vector<LoraLayer>& adapters);

  const FlowNetwork& base() const { return base_; }
  const FlowNetwork& policy() const { return *policy_; }
  /// As of the last merge(), which must have been called.
  const FlowNetwork& merged() const;
  /// Sets the merged network's adapted weights to W + scale B A, in the weight's dtype (one
  /// rounding). They are held besides the base's; all else is shared.
  void merge();

  /// The adapters of the policy.
  const LoraSet& lora() const { return *lora_; }
  std::vector<NamedTensor> parameters() const { return lora_->parameters(); }
  const std::vector<std::string>& paths() const { return lora_->paths(); }
  /// Makes the adapters act with `strength` times their trained scale; merge() again afterwards.
  void set_strength(double strength) { lora_->set_strength(strength); }
  /// Counts the passes of the policy and of the merged network; the base counts its own.
  void count_passes(const std::shared_ptr<PassCounter>& counter);

 private:
  const FlowNetwork& base_;
  std::unique_ptr<FlowNetwork> policy_, merged_;
  std::unique_ptr<LoraSet> lora_;
  std::shared_ptr<PassCounter> passes_;
};

}  // namespace vggflow
