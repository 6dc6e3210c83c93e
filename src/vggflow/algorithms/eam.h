#pragma once
// Efficient Adjoint Matching (arXiv 2605.11480), after its idea: a reference process with a linear,
// memoryless drift and the reward's tilt moved to its end, so that the adjoint is closed-form, end
// points come from an ODE rollout and states from noise added to them. The target below is our
// derivation (docs/renoised.md); the fixed point samples p*(x_1) ~ p_base(x_1) exp(lambda r(x_1)).
//
//   x_1 = x_N of a rollout of v_theta, without gradient
//   q = lambda grad r(x_1) + s(x_1)
//   t uniform (one from each of `draws` equal parts of [0, 1]), e ~ N(0, I)
//   x_t = t x_1 + (1 - t) e,   kappa_t = (1 - t) c^2 / (t^2 c^2 + (1 - t)^2)
//   v* = (x_1 - e) + kappa_t (q + w_t e), all detached
//   loss = mean |v_theta(x_t, t) - v*|^2 over elements and draws
//
// It is flow matching on the model's own samples with a control variate that carries the reward:
// E[q + w_t e | x_t] is the mean of grad log(p* / p_theta)(x_1), which vanishes where p_theta = p*,
// for every c. `control` says how. Scores are Tweedie's at t' = 1 - delta,
// s_v(x) = t' (t' v(t' x, t') - t' x) / (1 - t'):
//
//   stein        s = s_base, w_t = t / (1 - t): by Stein's identity the noise stands for the score
//                of p_theta. It needs samples that are wider than delta in every direction:
//                elsewhere s_base is the score of a wider law, and does not cancel the noise.
//   difference   s = s_base - s_theta, w_t = 0: both are smoothed alike, so q is lambda grad r
//                where p_theta = p_base, however narrow. One call of v_theta more per end point,
//                and v_theta's own error at t' comes back t'^2 / delta times.
//
// c sets speed and variance: at or below the data's width, 1 for latents. v_base is not asked for
// at the states.
//
// The target is of one law: guidance_in=[rollout], its default, or [] trains the conditional
// velocity, as Adjoint Matching does.

#include <string>

#include "vggflow/algorithms/method.h"
#include "vggflow/algorithms/reward_gradient.h"

namespace vggflow {

/// What stands for grad log(p_base / p_theta) at end points.
enum class EamControl { kStein, kDifference };
inline OptionWords<EamControl> option_words(EamControl) {
  return {{"stein", EamControl::kStein}, {"difference", EamControl::kDifference}};
}

struct EamOptions {
  double lambda = 1.0;
  LambdaUnit lambda_unit = LambdaUnit::kSpread;
  int64_t draws = 4;
  double width = 1.0;
  double delta = 0.02;
  EamControl control = EamControl::kStein;

  template <class V>
  void fields(V& v) {
    v("lambda", lambda, "reward multiplier: the target is p_base exp(lambda r)", range(0, 1e12));
    v("lambda_unit", lambda_unit,
      "what lambda multiplies: the reward, or the reward in standard deviations of the base's "
      "rewards within a prompt (spread)");
    v("draws", draws, "noised states per end point", range(1, 1000));
    v("width", width, "c of the reference distribution N(0, c^2 I): speed against variance",
      range(1e-3, 1e3));
    v("delta", delta, "noise level at which scores at end points are evaluated", range(1e-4, 0.5));
    v("control", control,
      "score at end points: the base's, with the noise in place of the policy's (stein), or the "
      "base's less the policy's (difference), for data narrower than delta, such as nano's");
  }

  static MethodTrials trials();
};

class Eam : public Method {
 public:
  Eam(const EamOptions& options, const RewardClipOptions& clip) : options_(options), clip_(clip) {}
  MethodReport update(AlignmentProblem& problem, const UpdateInput& input) const override;
  Passes cost(const CostShape& shape, const MethodReport& report) const override;
  Demand demand(const CostShape& shape) const override;
  std::string cost_formula(const CostShape& shape) const override;
  bool scales_with_beta() const override { return true; }
  bool asks_spread() const override { return options_.lambda_unit == LambdaUnit::kSpread; }
  bool guides_rollouts_alone() const override { return true; }

 private:
  double of_end(const CostShape& shape) const;

  EamOptions options_;
  RewardClipOptions clip_;
};

}  // namespace vggflow
