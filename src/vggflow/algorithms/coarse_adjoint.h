#pragma once
// Coarse adjoint: the lean adjoint of a trajectory from a few pull-backs (docs/coarse-adjoint.md).
// With D_k = I + (1 - t_k) grad v_base(x_k, t_k), the denoiser's Jacobian, the lean adjoint of
// Euler's steps (pmp.h) is a mean of the cotangent and of its denoised form,
//
//   a_k = (1 - l) a_{k+1} + l D_k^T a_{k+1},   l = (t_{k+1} - t_k) / (1 - t_k),   a_N = -grad r.
//
// The coarse one takes that step from one node k' to the next one k < k' with D_k of its left end,
//
//   a_k = (1 - l) a_{k'} + m D_k^T a_{k'},   m = min(l, max(l, damping) |a_{k'}| / |D_k^T a_{k'}|),
//
// which is a_{k'} + (t_{k'} - t_k) grad v_base(x_k, t_k)^T a_{k'} where nothing is damped. The step
// from t = 1 has l = 1 and is never damped. Between two nodes a is linear in t. Before the first
// node D a is taken to be 0, a(t) = a_first (1 - t_first) / (1 - t): what remains of the pull-back
// when the denoiser sees nothing of it. With a node at every step and no damping it is PMP's lean
// adjoint.

#include <vector>

#include "vggflow/algorithms/transitions.h"

namespace vggflow {

struct CoarseOptions {
  int64_t nodes = 5;
  std::vector<int64_t> node_steps = {};
  double damping = 0.5;

  template <class V>
  void fields(V& v) {
    v("nodes", nodes,
      "pull-backs of the coarse adjoint, placed for the time grid; as many as steps gives the full "
      "adjoint",
      range(1, 1000));
    v("node_steps", node_steps,
      "steps that the coarse adjoint pulls back through, decreasing, instead of nodes");
    v("damping", damping,
      "damping of the coarse adjoint: largest change per step in norms of the cotangent, unless "
      "the step covers a larger share of the time left; large values leave it undamped",
      range(1e-6, 1e12));
  }
};

/// Throws where a trajectory of so many steps does not have these nodes.
void check_coarse(const CoarseOptions& options, int64_t steps);

/// Pull-backs of one trajectory of so many steps.
double pull_backs(const CoarseOptions& options, double steps);

/// The steps to pull back through on a grid, decreasing: given ones, or node i of m at the step
/// whose noise level 1 - t is nearest by its logarithm to 0.05 + (s - 0.05) (i / (m - 1))^1.5, s =
/// (m - 1) / (m + 3).
std::vector<size_t> coarse_nodes(const CoarseOptions& options, const std::vector<double>& times);

/// Cotangents at x_0 ... x_N of the trajectory's kept rows, and v_base as adjoints see it at the
/// nodes (undefined elsewhere).
struct CoarseAdjoint {
  std::vector<Tensor> adjoints;
  std::vector<Tensor> base;
};
CoarseAdjoint coarse_adjoint(AlignmentProblem& problem, const Trajectory& trajectory,
                             const Tensor& rows, const Tensor& end, const CoarseOptions& options,
                             int64_t micro_batch);

}  // namespace vggflow
