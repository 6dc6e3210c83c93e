#pragma once
// The alignment problem of one update's batch: prompts bound to rows, a network per call,
// pixels made for the reward.

#include <memory>
#include <string>
#include <vector>

#include "vggflow/algorithms/method.h"
#include "vggflow/core/field.h"
#include "vggflow/families/value_network.h"
#include "vggflow/flow/adapted_flow.h"
#include "vggflow/flow/guided_velocity.h"
#include "vggflow/rewards/pixels.h"
#include "vggflow/rewards/reward.h"

namespace vggflow {

/// The networks of an alignment run; the base weights are frozen and held once.
struct AlignmentModels {
  FlowModel& model;
  const AdaptedFlow& adapted;  ///< of `model`; merged, unless options say otherwise
  const Reward& reward;
  ValueNetwork* value;     ///< null: no correction
  double value_scale = 1;  ///< nu = value_scale * network
};

/// The kinds of calls that classifier-free guidance may take part in.
enum class GuidedCall {
  kRollout,   ///< v_theta of rollouts
  kGradient,  ///< v_theta with gradient, and its directional derivative
  kAdjoint,   ///< v_base where a cotangent is pulled back through it
  kBase,      ///< v_base as the regression's reference
  kAuto       ///< as the method asks for; resolved before a problem is posed
};
inline OptionWords<GuidedCall> option_words(GuidedCall) {
  return {{"rollout", GuidedCall::kRollout},
          {"gradient", GuidedCall::kGradient},
          {"adjoint", GuidedCall::kAdjoint},
          {"base", GuidedCall::kBase},
          {"auto", GuidedCall::kAuto}};
}

/// Those that a setting lists; throws on kAuto.
struct GuidanceIn {
  bool rollout = true, gradient = true, adjoint = true, base = true;
  explicit GuidanceIn(const std::vector<GuidedCall>& calls);
  /// Whether a step of a rollout that carries v_theta - v_base runs both branches.
  bool any() const { return rollout || gradient || base; }
};

/// How the problem of every batch is posed.
struct ImageProblemOptions {
  bool merge = true;
  double guidance = 3.0;
  std::vector<GuidedCall> guidance_in{GuidedCall::kRollout, GuidedCall::kGradient,
                                      GuidedCall::kAdjoint, GuidedCall::kBase};
  bool detach_unconditional = true;
  PixelClamp clamp = PixelClamp::kHard;

  template <class V>
  void fields(V& v) {
    v("merge", merge,
      "merge the adapters into a copy of the weights for rollouts; false saves the copy's memory "
      "and costs time");
    v("guidance", guidance, "classifier-free guidance scale", range(0, 100));
    v("guidance_in", guidance_in,
      "where guidance applies: rollout, gradient (the policy in training), adjoint (the base that "
      "cotangents are pulled back through), base (the base in the regression target); auto: "
      "rollout alone for adjoint-matching, eam and ram, else all");
    v("detach_unconditional", detach_unconditional,
      "no gradient through the policy's unconditional branch");
    v("clamp", clamp, "how pixels are clamped to [0, 1] before the reward");
  }
};

/// What the calls of a problem with these options cost, for the methods' formulas; `value`: whether
/// there is a value network; `paired`: whether v_theta - v_base is carried (has_difference).
CostShape cost_shape_of(const ImageProblemOptions& options, bool value, bool paired, int64_t batch,
                        int64_t steps);

class ImageProblem : public AlignmentProblem {
 public:
  ImageProblem(const AlignmentModels& models, const ImageProblemOptions& options,
               std::vector<std::string> prompts);

  /// With merged adapters unless options say otherwise, both guidance branches in one batch.
  Tensor rollout_velocity(const Tensor& x, const Tensor& t) override;
  /// v_base guided as rollouts are, whatever the adapters hold: what the base's images are sampled
  /// by, before the first update and after a resume.
  Tensor base_rollout_velocity(const Tensor& x, const Tensor& t);
  Tensor policy(const States& s) override;
  /// With the unconditional branch detached and the rollout guided as the gradient is: velocity + w
  /// (v_con - sg(v_con)).
  Tensor policy_known(const States& s, const Tensor& velocity) override;
  /// The one rule for pairs: where the network computes in bf16.
  bool has_difference() const override { return models_.model.computes_narrow(); }
  Tensor rollout_rows(const States& s) override;
  VelocityDifference rollout_difference(const States& s) override;
  Tensor difference_known(const States& s, const Tensor& difference) override;
  /// By the weights that rollouts run on.
  Tensor lagged(const States& s) override;
  Dual policy_tangent(const Dual& x, const Dual& t, const Tensor& rows) override;
  Tensor base(const States& s) override;
  Tensor adjoint_base(const States& s) override;
  bool adjoint_is_base() const override { return guided_.adjoint == guided_.base; }
  Tensor reward(const Tensor& x1, const Tensor& rows) override;
  Dual reward_tangent(const Dual& x1, const Tensor& rows) override;
  Tensor reward_parts(const Tensor& x1, const Tensor& rows) override;
  Dual reward_parts_tangent(const Dual& x1, const Tensor& rows) override;
  std::vector<double> reward_weights() const override { return models_.reward.weights(); }
  bool has_correction() const override { return models_.value != nullptr; }
  bool correction_sees_guess() const override {
    return has_correction() && models_.value->sees_guess;
  }
  Tensor correction(const States& s) override;
  Dual correction_tangent(const Dual& x, const Dual& t, const Tensor& rows) override;

  CostShape cost_shape(int64_t batch, int64_t steps) const {
    return cost_shape_of(options_, has_correction(), has_difference(), batch, steps);
  }

 private:
  const FlowNetwork& rollout_network() const {
    return options_.merge ? models_.adapted.merged() : models_.adapted.policy();
  }
  template <TensorLike T>
  T pixels(const T& x1) const;
  GuidedVelocity velocity(const FlowNetwork& network, const Tensor& rows, bool guided,
                          bool detach) const;
  Tensor with_gradient(const States& s, const Tensor& value);
  Tensor rollout_field(const FlowNetwork& network, const Tensor& x, const Tensor& t) const;
  Tensor base_field(const States& s, bool guided);
  std::vector<std::string> prompts_of(const Tensor& rows) const;
  Tensor on_host(const Tensor& rows) const;
  Conditioning conditioning_of(const Tensor& rows) const;
  AlignmentModels models_;
  ImageProblemOptions options_;
  GuidanceIn guided_;
  std::vector<std::string> prompts_;
  Conditioning conditioning_;
  GuidedVelocity velocity_;
  mutable Tensor rows_, rows_on_host_;  ///< what on_host copied last
};

}  // namespace vggflow
