#include "vggflow/train/image_problem.h"

#include "vggflow/rewards/pixels.h"

namespace vggflow {

ImageProblem::ImageProblem(const AlignmentModels& models, const ImageProblemOptions& options, std::vector<std::string> prompts)
    : models_(models), options_(options), prompts_(std::move(prompts)), conditioning_(models.model.encode(prompts_)),
      velocity_(models.model.transformer, conditioning_, models.model.unconditional(static_cast<int64_t>(prompts_.size())), options.guidance,
                options.detach_unconditional) {}

Tensor ImageProblem::policy(const States& s) {
  const AdapterScope scope(models_.lora, AdapterMode::kOn);
  return velocity_.rows(s.rows)(s.x, s.t);
}

Dual ImageProblem::policy_tangent(const Dual& x, const Dual& t, const Tensor& rows) {
  const AdapterScope scope(models_.lora, AdapterMode::kMerged);
  return velocity_.rows(rows)(x, t);
}

// The base branch is guided as the policy is; its unconditional half belongs to the Jacobian when x asks for a gradient.
Tensor ImageProblem::base(const States& s) {
  const AdapterScope scope(models_.lora, AdapterMode::kOff);
  GuidedVelocity velocity = velocity_.rows(s.rows);
  velocity.set_detach_unconditional(false);
  return velocity(s.x, s.t);
}

Tensor ImageProblem::rollout_velocity(const Tensor& x, const Tensor& t) {
  const AdapterScope scope(models_.lora, AdapterMode::kMerged);
  return velocity_(x, t);
}

Tensor ImageProblem::reward(const Tensor& x1, const Tensor& rows) {
  return models_.reward.score(to_pixels(x1, options_.clamp), prompts_of(rows));
}

Dual ImageProblem::reward_tangent(const Dual& x1, const Tensor& rows) {
  return models_.reward.score(to_pixels(x1, options_.clamp), prompts_of(rows));
}

Tensor ImageProblem::correction(const States& s) {
  return models_.value->evaluate(s.x, (1 - s.t) * 1000, conditioning_of(s.rows)) * options_.value_scale;
}

Dual ImageProblem::correction_tangent(const Dual& x, const Dual& t, const Tensor& rows) {
  const Dual nu = models_.value->evaluate(x, Dual{(1 - t.value) * 1000, t.tangent * -1000}, conditioning_of(rows));
  return {nu.value * options_.value_scale, nu.tangent * options_.value_scale};
}

std::vector<std::string> ImageProblem::prompts_of(const Tensor& rows) const {
  std::vector<std::string> out;
  const Tensor list = rows.contiguous();
  const auto* p = list.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < rows.numel(); ++i) out.push_back(prompts_[static_cast<size_t>(p[i])]);
  return out;
}

// In fp32, whatever dtype the frozen text encoder has: the value network trains in fp32.
Conditioning ImageProblem::conditioning_of(const Tensor& rows) const {
  return {conditioning_.context.index_select(0, rows).to(at::kFloat), conditioning_.pooled.index_select(0, rows).to(at::kFloat)};
}

}  // namespace vggflow
