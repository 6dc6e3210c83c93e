#include "vggflow/eval/guide.h"

#include <ATen/ATen.h>

#include "vggflow/core/error.h"
#include "vggflow/flow/eta.h"
#include "vggflow/flow/sampling.h"
#include "vggflow/ops/row_norms.h"
#include "vggflow/ops/vjp.h"
#include "vggflow/rewards/pixels.h"

namespace vggflow {

ValueGuide::ValueGuide(const GuideOptions& options, FlowModel& model)
    : options_(options),
      model_(model),
      reward_(make_reward(options.reward, options.reward_files.resources())) {
  require_differentiable(*reward_, options.reward);
  if (options.kind != GuideKind::kValue) return;
  VGGFLOW_CHECK(!options.value.empty(),
                "[guide] expected guide.value, the value.safetensors of a run of vgg-flow, for "
                "guide.kind=value");
  value_ = load_value_network(options.value, model);
}

Tensor ValueGuide::push(const Tensor& x, const Tensor& t, const Tensor& v,
                        const std::vector<std::string>& prompts,
                        const Conditioning& conditioning) const {
  const Tensor end = one_step_guess(x, t, v);
  const Tensor gradient = gradient_of(
      [&](const Tensor& guess) {
        return reward_->score(to_pixels(model_.decode(guess), options_.clamp), prompts);
      },
      end);
  const Tensor norm = row_norms(gradient).clamp_min(1e-30);
  const Tensor factor =
      options_.clip_norm > 0 ? (options_.clip_norm / norm).clamp_max(1.0) : at::ones_like(norm);
  const Tensor clipped = expand_time(factor, x) * gradient;
  const Tensor push = options_.beta * expand_time(eta(options_.eta, t), x) * clipped;
  if (!value_.network) return push;
  return push - options_.beta * value_correction(*value_.network, value_.scale, x, t,
                                                 conditioning.to(at::kFloat), {end, clipped});
}

}  // namespace vggflow
