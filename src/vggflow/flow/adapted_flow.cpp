#include "vggflow/flow/adapted_flow.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "vggflow/core/error.h"

namespace vggflow {

AdaptedFlow::AdaptedFlow(const FlowNetwork& base, const LoraOptions& options, uint64_t seed)
    : base_(base),
      policy_(base.view()),
      lora_(std::make_unique<LoraSet>(policy_->network(), options, seed)) {
  lora_->set_mode(AdapterMode::kOn);
}

AdaptedFlow::AdaptedFlow(const FlowNetwork& base, const std::vector<LoraLayer>& adapters)
    : base_(base),
      policy_(base.view()),
      lora_(std::make_unique<LoraSet>(policy_->network(), adapters)) {
  lora_->set_mode(AdapterMode::kOn);
}

const FlowNetwork& AdaptedFlow::merged() const {
  VGGFLOW_CHECK(merged_, "[adapted_flow] expected merge() before the merged network is used");
  return *merged_;
}

void AdaptedFlow::merge() {
  const at::NoGradGuard off;
  if (!merged_) {
    merged_ = base_.view();
    if (passes_) merged_->count_passes(passes_);
  }
  const auto from = policy_->network().modules(), to = merged_->network().modules();
  for (size_t i = 0; i < from.size(); ++i) {
    const auto* adapted = dynamic_cast<const Linear*>(from[i].second);
    if (!adapted || !adapted->lora.a.defined()) continue;
    const LoraAdapter& lora = adapted->lora;
    const Tensor delta = at::matmul(lora.b, lora.a) * lora.scale;
    dynamic_cast<Linear&>(*to[i].second).weight =
        (adapted->weight.to(at::kFloat) + delta).to(adapted->weight.scalar_type());
  }
}

void AdaptedFlow::count_passes(const std::shared_ptr<PassCounter>& counter) {
  passes_ = counter;
  policy_->count_passes(counter);
  if (merged_) merged_->count_passes(counter);
}

}  // namespace vggflow
