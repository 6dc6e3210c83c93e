#pragma once
// DRTune (Wu et al. 2024, Deep Reward Supervisions): a few steps spread over the rollout learn from
// the reward of a one-step guess, and no gradient passes through a network's input.
//
//   s uniform on the last `late` share of the steps, one draw a trajectory,
//   x1_hat = x_s + (1 - t_s) v_s,   G = -f'(r) grad r(x1_hat) / B,
//   T: k steps `stride` = floor((s + 1) / k) apart within 0 ... s, their first one uniform,
//   grad_theta = sum_{i in T} c_i [d v_i / d theta]^T G,   c_i = h_i for i < s, c_s = 1 - t_s.
//
// The rollout goes on to its end, which the original leaves out: its rewards are what runs report.

#include <string>
#include <vector>

#include "vggflow/algorithms/surrogate.h"

namespace vggflow {

struct DrtuneOptions {
  int64_t k = 3;
  double late = 0.4;
  RewardTransformOptions transform;

  template <class V>
  void fields(V& v) {
    v("k", k, "trained steps per trajectory", range(1, 1000));
    v("late", late, "fraction of the steps, at the end, from which the scored step is sampled",
      range(0, 1));
    v.section("transform", transform);
  }

  static MethodTrials trials();
};

class Drtune : public Ascent {
 public:
  Drtune(const DrtuneOptions& options, const RewardClipOptions& clip)
      : Ascent("drtune", options.transform, clip), options_(options) {}
  void check(int64_t steps) const override;

 protected:
  Surrogates draw(const Trajectory& trajectory, const UpdateInput& input) const override;
  double terms() const override { return static_cast<double>(options_.k); }
  bool has_joint() const override { return false; }

 private:
  DrtuneOptions options_;
};

/// The scored step and the trained ones, increasing, of one trajectory.
struct DrtuneSteps {
  int64_t scored;
  std::vector<int64_t> trained;
};
DrtuneSteps draw_drtune(const DrtuneOptions& options, int64_t steps, RandomStream random);

/// Their terms.
Surrogate drtune_surrogate(const std::vector<double>& times, const DrtuneSteps& steps);

}  // namespace vggflow
