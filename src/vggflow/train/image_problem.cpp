#include "vggflow/train/image_problem.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/core/interrupt.h"
#include "vggflow/device/range.h"
#include "vggflow/rewards/pixels.h"

namespace vggflow {

GuidanceIn::GuidanceIn(const std::vector<GuidedCall>& calls) {
  const auto listed = [&](GuidedCall call) {
    return std::find(calls.begin(), calls.end(), call) != calls.end();
  };
  VGGFLOW_CHECK(!listed(GuidedCall::kAuto),
                "[align] expected guidance_in=[auto] alone, or a list of the others");
  rollout = listed(GuidedCall::kRollout);
  gradient = listed(GuidedCall::kGradient);
  adjoint = listed(GuidedCall::kAdjoint);
  base = listed(GuidedCall::kBase);
}

namespace {

bool known_by_rollout(const ImageProblemOptions& o, const GuidanceIn& in) {
  return o.detach_unconditional && o.guidance != 1.0 && in.gradient && in.rollout;
}

}  // namespace

CostShape cost_shape_of(const ImageProblemOptions& o, bool value, bool paired, int64_t batch,
                        int64_t steps) {
  const GuidanceIn in(o.guidance_in);
  const bool known = known_by_rollout(o, in);
  const auto branches = [&](bool guided) { return guided && o.guidance != 1.0 ? 2.0 : 1.0; };
  CostShape s{.batch = static_cast<double>(batch), .steps = static_cast<double>(steps)};
  s.rollout = branches(in.rollout);
  s.policy = s.tangent = branches(in.gradient);
  s.policy_graph = o.detach_unconditional ? 1.0 : s.policy;
  s.known = known ? 1.0 : s.policy;
  s.known_graph = known ? 1.0 : s.policy_graph;
  s.base = branches(in.base);
  s.adjoint = branches(in.adjoint);
  s.adjoint_is_base = in.adjoint == in.base;
  s.value = value;
  s.paired = paired;
  s.reference = paired ? 2 * branches(in.any()) - s.rollout : s.base;
  return s;
}

ImageProblem::ImageProblem(const AlignmentModels& models, const ImageProblemOptions& options,
                           std::vector<std::string> prompts)
    : models_(models),
      options_(options),
      guided_(options.guidance_in),
      prompts_(std::move(prompts)),
      conditioning_(models.model.encode(prompts_)),
      velocity_(models.model, conditioning_,
                models.model.unconditional(static_cast<int64_t>(prompts_.size())), options.guidance,
                options.detach_unconditional) {}

GuidedVelocity ImageProblem::velocity(const FlowNetwork& network, const Tensor& rows, bool guided,
                                      bool detach) const {
  leave_if_asked();
  GuidedVelocity v = velocity_.rows(rows).of(network);
  v.set_detach_unconditional(detach);
  if (!guided) v.set_guidance(1.0);
  return v;
}

Tensor ImageProblem::rollout_velocity(const Tensor& x, const Tensor& t) {
  return rollout_field(rollout_network(), x, t);
}

Tensor ImageProblem::base_rollout_velocity(const Tensor& x, const Tensor& t) {
  return rollout_field(models_.model, x, t);
}

Tensor ImageProblem::rollout_field(const FlowNetwork& network, const Tensor& x,
                                   const Tensor& t) const {
  leave_if_asked();
  const DeviceRange range("rollout");
  GuidedVelocity v = velocity_.of(network);
  if (!guided_.rollout) v.set_guidance(1.0);
  return v(x, t);
}

Tensor ImageProblem::policy(const States& s) {
  const DeviceRange range("policy");
  return velocity(models_.adapted.policy(), s.rows, guided_.gradient,
                  options_.detach_unconditional)(s.x, s.t);
}

Tensor ImageProblem::policy_known(const States& s, const Tensor& known) {
  return known_by_rollout(options_, guided_) ? with_gradient(s, known) : policy(s);
}

Tensor ImageProblem::with_gradient(const States& s, const Tensor& value) {
  const DeviceRange range("policy");
  const Tensor branch =
      velocity(models_.adapted.policy(), s.rows, true, true).conditional(s.x, s.t);
  return value + options_.guidance * (branch - branch.detach());
}

Tensor ImageProblem::difference_known(const States& s, const Tensor& difference) {
  return known_by_rollout(options_, guided_) ? with_gradient(s, difference)
                                             : AlignmentProblem::difference_known(s, difference);
}

Tensor ImageProblem::lagged(const States& s) {
  at::NoGradGuard no_grad;
  return velocity(rollout_network(), s.rows, guided_.gradient, true)(s.x, s.t);
}

Tensor ImageProblem::rollout_rows(const States& s) {
  return velocity(rollout_network(), s.rows, guided_.rollout, true)(s.x, s.t);
}

// Each of the three fields takes its own share of both branches.
VelocityDifference ImageProblem::rollout_difference(const States& s) {
  const DeviceRange range("rollout");
  const GuidedVelocity v = velocity(models_.adapted.policy(), s.rows, guided_.any(), true);
  const auto field = [&](const Tensor& branches, bool guided) {
    return guided ? v.mixed(branches) : v.conditional_of(branches);
  };
  const Pair both = v.branches(s.x, s.t);
  const Tensor change = both.difference.defined() ? both.difference : at::zeros_like(both.base);
  Tensor difference = field(change, guided_.gradient);
  if (guided_.gradient != guided_.base)
    difference = difference + field(both.base, guided_.gradient) - field(both.base, guided_.base);
  return {field(both.base + change, guided_.rollout), difference};
}

Dual ImageProblem::policy_tangent(const Dual& x, const Dual& t, const Tensor& rows) {
  at::NoGradGuard no_grad;
  return velocity(rollout_network(), rows, guided_.gradient, options_.detach_unconditional)(x, t);
}

// The unconditional half belongs to the base's Jacobian when x asks for a gradient.
Tensor ImageProblem::base_field(const States& s, bool guided) {
  const DeviceRange range("base");
  return velocity(models_.model, s.rows, guided, false)(s.x, s.t);
}

Tensor ImageProblem::base(const States& s) { return base_field(s, guided_.base); }
Tensor ImageProblem::adjoint_base(const States& s) { return base_field(s, guided_.adjoint); }

// What the reward sees of end points.
template <TensorLike T>
T ImageProblem::pixels(const T& x1) const {
  return to_pixels(models_.model.decode(x1), options_.clamp);
}

Tensor ImageProblem::reward(const Tensor& x1, const Tensor& rows) {
  const DeviceRange range("reward");
  return models_.reward.score(pixels(x1), prompts_of(rows));
}

Dual ImageProblem::reward_tangent(const Dual& x1, const Tensor& rows) {
  const DeviceRange range("reward");
  return models_.reward.score(pixels(x1), prompts_of(rows));
}

Tensor ImageProblem::reward_parts(const Tensor& x1, const Tensor& rows) {
  const DeviceRange range("reward");
  return models_.reward.parts(pixels(x1), prompts_of(rows));
}

Dual ImageProblem::reward_parts_tangent(const Dual& x1, const Tensor& rows) {
  const DeviceRange range("reward");
  return models_.reward.parts(pixels(x1), prompts_of(rows));
}

Tensor ImageProblem::correction(const States& s) {
  const DeviceRange range("value network");
  return value_correction(*models_.value, models_.value_scale, s.x, s.t, conditioning_of(s.rows),
                          {s.end, s.gradient});
}

Dual ImageProblem::correction_tangent(const Dual& x, const Dual& t, const Tensor& rows) {
  const Dual nu = models_.value->evaluate(x, t, conditioning_of(rows));
  return {nu.value * models_.value_scale, nu.tangent * models_.value_scale};
}

std::vector<std::string> ImageProblem::prompts_of(const Tensor& rows) const {
  std::vector<std::string> out;
  const Tensor list = on_host(rows).contiguous();
  const auto* p = list.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < rows.numel(); ++i) out.push_back(prompts_[static_cast<size_t>(p[i])]);
  return out;
}

// The parts of a batch are slices of one list: it is copied once.
Tensor ImageProblem::on_host(const Tensor& rows) const {
  if (rows.is_cpu()) return rows;
  if (!rows_.defined() || !rows_.storage().is_alias_of(rows.storage())) {
    const auto count = static_cast<int64_t>(rows.storage().nbytes() / rows.element_size());
    rows_ = rows.as_strided({count}, {1}, 0);
    rows_on_host_ = rows_.cpu();
  }
  return rows_on_host_.as_strided(rows.sizes(), rows.strides(), rows.storage_offset());
}

// In fp32, whatever dtype the frozen text encoder has: the value network trains in fp32.
Conditioning ImageProblem::conditioning_of(const Tensor& rows) const {
  return conditioning_.rows(rows).to(at::kFloat);
}

}  // namespace vggflow
