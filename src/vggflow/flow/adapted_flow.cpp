#include "vggflow/flow/adapted_flow.h"

#include "vggflow/core/error.h"

namespace vggflow {

AdaptedFlow::AdaptedFlow(const FlowNetwork& base, const LoraOptions& options, uint64_t seed)
    : base_(base),
      policy_(base.view()),
      lora_(std::make_unique<LoraSet>(policy_->network(), options, seed)) {}

AdaptedFlow::AdaptedFlow(const FlowNetwork& base, const std::vector<LoraLayer>& adapters)
    : base_(base),
      policy_(base.view()),
      lora_(std::make_unique<LoraSet>(policy_->network(), adapters)) {}

const FlowNetwork& AdaptedFlow::merged() const {
  VGGFLOW_CHECK(merged_, "[adapted_flow] expected merge() before the merged network is used");
  return *merged_;
}

void AdaptedFlow::merge() {
  if (!merged_) {
    merged_ = base_.view();
    if (passes_) merged_->count_passes(passes_);
  }
  lora_->merge_into(merged_->network());
}

void AdaptedFlow::count_passes(const std::shared_ptr<PassCounter>& counter) {
  passes_ = counter;
  policy_->count_passes(counter);
  if (merged_) merged_->count_passes(counter);
}

}  // namespace vggflow
