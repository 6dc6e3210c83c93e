#pragma once
// DRaFT (Clark et al. 2023): ascent on E[f(r(x_1))] by the exact gradient through the last K Euler
// steps.
//
//   x_{j+1} = x_j + h_j v_theta(x_j, t_j),   a_N = -f'(r) grad r(x_N) / B,
//   a_j = a_{j+1} + h_j [dv/dx]^T a_{j+1},
//   grad_theta = sum_j h_j [dv/dtheta]^T a_{j+1},   j = N-1, ..., N-K.
//
// The sum is taken by a backward sweep that recomputes one step's graph at a time from the stored
// states (gradient checkpointing per step), so memory does not grow with K. Kinds of K:
//   full      K = N
//   fixed     K = k  (DRaFT-K; k = 1 is DRaFT-1)
//   uniform   K uniform on {1, ..., k}, one draw an update
//   gaussian  K = round(N(k, k_sd)) in [1, N], one draw an update (AlignProp's randomised
//             truncation counts the other way: N - K)
//   lv        DRaFT-LV: from the finished, detached x_N, `lv_noises` fresh noises give
//             x = t x_N + (1 - t) e at the last step's t; one step from each with gradient, mean
//             over them. With lv_own_step the trajectory's own last step is averaged in (FlowBP).
// On diffusers' SD3 grid the last step has h = 0.009 and learning sees nothing else: choose the
// grid with care (time_grid.kind).

#include <memory>

#include "vggflow/algorithms/method.h"
#include "vggflow/algorithms/reward_gradient.h"
#include "vggflow/core/random.h"

namespace vggflow {

/// The kinds of K above.
enum class DraftKind { kFull, kFixed, kUniform, kGaussian, kLv };
inline OptionWords<DraftKind> option_words(DraftKind) {
  return {{"full", DraftKind::kFull},
          {"fixed", DraftKind::kFixed},
          {"uniform", DraftKind::kUniform},
          {"gaussian", DraftKind::kGaussian},
          {"lv", DraftKind::kLv}};
}

struct DraftOptions {
  DraftKind kind = DraftKind::kFixed;
  int64_t k = 1;
  double k_sd = 1.0;
  int64_t lv_noises = 2;
  bool lv_own_step = false;
  RewardTransformOptions transform;

  template <class V>
  void fields(V& v) {
    v("kind", kind, "which steps receive gradients");
    v("k", k, "K for fixed, its maximum for uniform, its mean for gaussian", range(1, 1000));
    v("k_sd", k_sd, "standard deviation of K, for gaussian", range(0, 1000));
    v("lv_noises", lv_noises, "noise samples for lv", range(1, 1000));
    v("lv_own_step", lv_own_step,
      "for lv: include the trajectory's own last step in the average, as FlowBP does");
    v.section("transform", transform);
  }

  static MethodTrials trials();
};

/// DRaFT, or DRaFT-LV where the kind is lv.
std::unique_ptr<Method> make_draft(const DraftOptions& options, const RewardClipOptions& clip);

/// K of this update, in [1, steps].
int64_t draw_truncation(const DraftOptions& options, int64_t steps, RandomStream random);

}  // namespace vggflow
