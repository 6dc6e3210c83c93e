#pragma once
// VGG-Flow-PMP: the adjoint of Pontryagin's maximum principle in place of a learned value gradient
// (VGG-Flow paper, App. A.1).
//
//   forward    x' = v_theta(x, t)
//   backward   a' = -grad_x [ (lambda/2) |v_theta - v_base|^2 + a . v_theta ],  a(1) = -grad r(x_1)
//   (Eq. 20; "full")
//              a' = -[grad v_base]^T a (Prop. 3; "lean")
//   loss       E |v_theta - v_base + beta a|^2, a detached (Eq. 22 over lambda^2)
//
// On an optimally controlled path both adjoints are grad V. Discretised as the exact adjoint of the
// Euler steps: the transition k -> k+1 is matched to a_{k+1}. The full form needs the policy's
// whole Jacobian: set detach_unconditional to false for it. Costs N pull-backs a trajectory (lean:
// through v_base, full: through both).

#include <string>

#include "vggflow/algorithms/method.h"
#include "vggflow/algorithms/reward_gradient.h"
#include "vggflow/algorithms/transitions.h"

namespace vggflow {

struct PmpOptions {
  double beta = 1.0;
  std::string adjoint = "lean";
  TransitionOptions transitions;

  template <class V>
  void fields(V& v) {
    v("beta", beta, "1/lambda: how far the reward may pull the velocity", range(0, 1e12));
    v("adjoint", adjoint, "lean: through v_base alone; full: of the whole running cost",
      choices({"lean", "full"}));
    transitions.fields(v);
  }
};

class Pmp : public Method {
 public:
  Pmp(const PmpOptions& options, const RewardClipOptions& clip) : options_(options), clip_(clip) {}
  MethodReport update(AlignmentProblem& problem, const UpdateInput& input) const override;
  Passes cost(const CostShape& shape, const MethodReport& report) const override;
  std::string cost_formula(const CostShape& shape) const override;
  double beta() const override { return options_.beta; }

 private:
  PmpOptions options_;
  RewardClipOptions clip_;
};

/// One step of the full adjoint at states: a + h [grad v_theta]^T (a + lambda (v_theta - v_base)) -
/// h lambda [grad v_base]^T (v_theta - v_base).
Tensor full_adjoint_step(AlignmentProblem& problem, const States& states, double h, const Tensor& a,
                         double lambda);

}  // namespace vggflow
