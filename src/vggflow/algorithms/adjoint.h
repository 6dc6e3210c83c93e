#pragma once
// Adjoints of Euler trajectories: cotangents pulled back through steps x_{k+1} = x_k + h_k v(x_k,
// t_k).

#include <functional>
#include <vector>

#include "vggflow/algorithms/transitions.h"

namespace vggflow {

/// [grad v_base(x, t)]^T a at M states, through the base as adjoints see it; no gradient to theta.
Tensor base_pull_back(AlignmentProblem& problem, const States& states, const Tensor& a);

/// How a cotangent at x_{k+1} becomes one at x_k.
using StepPullBack = std::function<Tensor(const States& states, double h, const Tensor& a)>;

/// The lean adjoint's step (pmp.h): a_k = a_{k+1} + h [grad v_base(x_k, t_k)]^T a_{k+1}.
StepPullBack lean_step(AlignmentProblem& problem);

/// The cotangent at x_k of the trajectory's kept rows, from `a` at x_{k+1}, in parts of
/// `micro_batch` rows.
Tensor pull_back_step(const Trajectory& trajectory, size_t k, const Tensor& rows, const Tensor& a,
                      int64_t micro_batch, const StepPullBack& step);

/// Cotangents at x_0 ... x_N of the trajectory's kept rows, from `end` at x_N, each step in parts
/// of `micro_batch` rows; down to x_first, undefined before it.
std::vector<Tensor> sweep(const Trajectory& trajectory, const Tensor& rows, const Tensor& end,
                          int64_t micro_batch, const StepPullBack& step, size_t first = 0);

/// The sweep's cotangents that transitions starting at step k see, a_{k+1} = dJ/dx_{k+1}, (M, ...):
/// with them the regression on v_base - beta a solves the Euler-discretised problem exactly.
Tensor gather(const std::vector<Tensor>& adjoints, const Transitions& transitions,
              const Tensor& rows);

/// Mean norm of the whole batch's cotangents at each step.
std::vector<double> mean_norms(const std::vector<Tensor>& adjoints, const WholeBatch& whole);

/// Transitions whose row is among `rows`.
Transitions keep_rows(const Transitions& all, const Tensor& rows);

}  // namespace vggflow
