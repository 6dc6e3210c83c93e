#pragma once
// Time grids and Euler integration of x' = v(x, t) from noise (t = 0) to data (t = 1). States stay
// in fp32.

#include <functional>
#include <string>
#include <vector>

#include "vggflow/core/field.h"
#include "vggflow/ops/dual.h"

namespace vggflow {

/// v(x, t) for x (B, ...) and t (B).
using VelocityFunction = std::function<Tensor(const Tensor& x, const Tensor& t)>;

/// How noise levels are spaced: see time_grid.
enum class GridKind { kAuto, kSingleShift, kDiffusersDefault, kExplicit };
inline OptionWords<GridKind> option_words(GridKind) {
  return {{"auto", GridKind::kAuto},
          {"single_shift", GridKind::kSingleShift},
          {"diffusers_default", GridKind::kDiffusersDefault},
          {"explicit", GridKind::kExplicit}};
}

struct TimeGridOptions {
  int64_t steps = 20;
  GridKind kind = GridKind::kAuto;
  double shift = 0;  ///< f(s) = shift s / (1 + (shift - 1) s) on sigma = 1 - t; 1 is uniform
  std::vector<double> sigmas = {};  ///< for an explicit grid: decreasing, the final 0 is added

  template <class V>
  void fields(V& v) {
    v("steps", steps, "Euler steps", range(1, 1000));
    v("kind", kind,
      "single_shift: shift of linspace(1, 1/steps); diffusers_default: SD3's scheduler, which "
      "shifts twice; explicit; auto: what the model's own "
      "pipeline does (nano: single_shift)");
    v("shift", shift, "static shift of the noise levels; 1: uniform; 0: the model's own shift",
      range(0, 100));
    v("sigmas", sigmas, "noise levels of an explicit grid, decreasing from 1, without the final 0");
  }
};

/// The same options with kind auto and shift 0 replaced by what a model's own pipeline does.
TimeGridOptions resolved_grid(TimeGridOptions options, double model_shift, bool model_shifts_twice);

/// Flow times 0 = t_0 < ... < t_steps = 1. single_shift: sigma_k = f(1 - k/steps); so is auto,
/// and shift 0 is 1. diffusers_default: the end points are shifted first and f is applied again to
/// a linear ramp between them (diffusers issue 13243).
std::vector<double> time_grid(const TimeGridOptions& options);

/// The states of Euler's method at the grid's times.
struct Trajectory {
  std::vector<double> times;
  std::vector<Tensor> states;  ///< one per time
  const Tensor& final_state() const { return states.back(); }
};

/// x_{k+1} = x_k + (t_{k+1} - t_k) v(x_k, t_k), without gradient.
Trajectory integrate(const VelocityFunction& velocity, const Tensor& x0,
                     const std::vector<double>& times);

/// Only the end of the trajectory: keeps one state.
Tensor sample(const VelocityFunction& velocity, const Tensor& x0, const std::vector<double>& times);

/// x1_hat = x + (1 - t) v, the one-step guess of the end point; t (B).
Tensor one_step_guess(const Tensor& x, const Tensor& t, const Tensor& v);

/// t (B) shaped to multiply x (B, ...).
Tensor expand_time(const Tensor& t, const Tensor& x);

}  // namespace vggflow
