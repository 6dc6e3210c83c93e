#pragma once
// VGG-Flow-PMP: the adjoint of Pontryagin's maximum principle in place of a learned value gradient
// (VGG-Flow paper, App. A.1).
//
//   forward    x' = v_theta(x, t)
//   backward   a' = -grad_x [ (lambda/2) |v_theta - v_base|^2 + a . v_theta ],
//              a(1) = -grad r(x_1)                      (Eq. 20; "full")
//              a' = -[grad v_base]^T a                  (Prop. 3; "lean")
//   loss       E |v_theta - v_base + beta a|^2, a detached (Eq. 22 over lambda^2)
//
// On an optimally controlled path both adjoints are grad V. Discretised as the exact adjoint of the
// Euler steps: the transition k -> k+1 is matched to a_{k+1}. The full form needs the policy's
// whole Jacobian: set detach_unconditional to false for it. Costs N pull-backs a trajectory (lean:
// through v_base, full: through both).
//
// Truncated (ODE Adjoint Matching, arXiv 2605.06583): the adjoint is pulled back through the last K
// steps alone, a_N ... a_{N-K}, which the transitions k >= N - K see. Of the earlier ones
//   none            no transition is trained: they drift with the weights that all times share
//   anchor          v* = v_base: they keep the base's layout
//   frozen_adjoint  see a_{N-K}; K = 0 is Reward Score Matching's end point with eta = 1
//                   (vgg_flow.h)

#include <string>

#include "vggflow/algorithms/method.h"
#include "vggflow/algorithms/reward_gradient.h"
#include "vggflow/algorithms/transitions.h"

namespace vggflow {

/// Of Prop. 3, or of Eq. 20.
enum class AdjointForm { kLean, kFull };
inline OptionWords<AdjointForm> option_words(AdjointForm) {
  return {{"lean", AdjointForm::kLean}, {"full", AdjointForm::kFull}};
}

/// What becomes of the transitions before the truncated adjoint's, as above.
enum class EarlySteps { kNone, kAnchor, kFrozenAdjoint };
inline OptionWords<EarlySteps> option_words(EarlySteps) {
  return {{"none", EarlySteps::kNone},
          {"anchor", EarlySteps::kAnchor},
          {"frozen_adjoint", EarlySteps::kFrozenAdjoint}};
}

struct PmpOptions {
  double beta = 1.0;
  AdjointForm adjoint = AdjointForm::kLean;
  int64_t steps = -1;
  EarlySteps early = EarlySteps::kFrozenAdjoint;
  TransitionOptions transitions;

  template <class V>
  void fields(V& v) {
    v("beta", beta, "beta = 1/lambda: strength of the reward", range(0, 1e12));
    v("adjoint", adjoint, "lean: through v_base only; full: of the whole running cost");
    v("steps", steps, "number of last steps that the adjoint is pulled back through; -1: all",
      range(-1, 1000));
    v("early", early,
      "earlier transitions: not trained, anchored to the base, or trained on the adjoint at the "
      "last pulled-back step");
    transitions.fields(v);
  }

  static MethodTrials trials();
};

class Pmp : public Method {
 public:
  Pmp(const PmpOptions& options, const RewardClipOptions& clip) : options_(options), clip_(clip) {}
  MethodReport update(AlignmentProblem& problem, const UpdateInput& input) const override;
  void check(int64_t steps) const override;
  Passes cost(const CostShape& shape, const MethodReport& report) const override;
  Demand demand(const CostShape& shape) const override;
  std::string cost_formula(const CostShape& shape) const override;
  bool minimises_objective() const override { return true; }
  double beta() const override { return options_.beta; }

 private:
  double pull_backs(double steps) const;
  int64_t first_trained(int64_t steps) const;
  PmpOptions options_;
  RewardClipOptions clip_;
};

/// One step of the full adjoint at states: a + h [grad v_theta]^T (a + lambda (v_theta - v_base)) -
/// h lambda [grad v_base]^T (v_theta - v_base).
Tensor full_adjoint_step(AlignmentProblem& problem, const States& states, double h, const Tensor& a,
                         double lambda);

}  // namespace vggflow
