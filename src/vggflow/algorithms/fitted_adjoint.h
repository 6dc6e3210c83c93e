#pragma once
// Fitted adjoint: targets for g between VGG-Flow's one-step guess and PMP's full adjoint, along the
// same trajectory (docs/fitted-adjoint.md). With the one-step guess G(x, t) = -grad r(x + (1 - t)
// v_theta(x, t)) and the lean pull-back P_k a = a + h_k [grad v_base(x_k, t_k)]^T a of the Euler
// step k, the lambda-return is
//
//   g_N = -grad r(x_N),   g_k = P_k ( (1 - lambda) G(x_{k+1}, t_{k+1}) + lambda g_{k+1} ),
//
// the geometric mixture of the n-step targets P_k ... P_{k+n-1} G(x_{k+n}, t_{k+n}), as TD(lambda)
// mixes n-step returns. lambda = 1 is PMP's lean adjoint, lambda = 0 pulls the guess back through
// one step. "steps" n instead takes the single n-step target. The loss is matching on v_base - beta
// g; the transition k -> k+1 takes the cotangent at x_{k+1}, as in PMP.

#include <string>
#include <vector>

#include "vggflow/algorithms/method.h"
#include "vggflow/algorithms/reward_gradient.h"
#include "vggflow/algorithms/transitions.h"

namespace vggflow {

struct FittedAdjointOptions {
  double beta = 1.0;
  double lambda_return = 0.8;
  int64_t steps = 0;
  TransitionOptions transitions;

  template <class V>
  void fields(V& v) {
    v("beta", beta, "beta = 1/lambda: strength of the reward", range(0, 1e12));
    v("lambda_return", lambda_return,
      "lambda of the lambda-return over n-step targets: 0: one step, 1: the full adjoint",
      range(0, 1));
    v("steps", steps, "n of a single n-step target; 0: the lambda-return", range(0, 1000));
    transitions.fields(v);
  }

  static MethodTrials trials();
};

class FittedAdjoint : public Method {
 public:
  FittedAdjoint(const FittedAdjointOptions& options, const RewardClipOptions& clip)
      : options_(options), clip_(clip) {}
  MethodReport update(AlignmentProblem& problem, const UpdateInput& input) const override;
  void check(int64_t steps) const override;
  Passes cost(const CostShape& shape, const MethodReport& report) const override;
  Demand demand(const CostShape& shape) const override;
  std::string cost_formula(const CostShape& shape) const override;
  bool minimises_objective() const override { return true; }
  double beta() const override { return options_.beta; }

 private:
  FittedAdjointOptions options_;
  RewardClipOptions clip_;
};

/// Targets at x_1 ... x_N (index k holds x_k's; index 0 is empty) from the guesses there:
/// guesses[k] = G(x_k, t_k), guesses[N] = -grad r.
std::vector<Tensor> fitted_targets(AlignmentProblem& problem, const Trajectory& trajectory,
                                   const Tensor& rows, const std::vector<Tensor>& guesses,
                                   const FittedAdjointOptions& options, int64_t micro_batch);

}  // namespace vggflow
