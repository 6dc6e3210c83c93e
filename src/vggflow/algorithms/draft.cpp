#include "vggflow/algorithms/draft.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "vggflow/algorithms/step_check.h"
#include "vggflow/algorithms/transitions.h"
#include "vggflow/core/log.h"
#include "vggflow/ops/random_tensor.h"

namespace vggflow {
namespace {

// -f'(r) c grad r / count of the finite rows, and the loss they make.
struct Seed {
  Tensor rows, cotangent;
};
Seed reward_seed(AlignmentProblem& problem, const RewardClipOptions& clip,
                 const RewardTransformOptions& transform, const Tensor& x1, const Tensor& rows,
                 double count, int64_t micro_batch, MethodReport& report) {
  const RewardGradients r = reward_gradients(problem, clip, x1, rows, micro_batch);
  const Tensor keep = finite_rows(r.finite, "draft");
  report.dropped += rows.numel() - keep.numel();
  report.values["clip_threshold"] = r.threshold;
  report.loss["reward"] -=
      transformed(transform, r.reward.index_select(0, keep)).sum().item<double>() / count;
  const Tensor cotangent =
      -expand_time(transform_slope(transform, r.reward), r.gradient) * r.gradient / count;
  return {keep, cotangent.index_select(0, keep)};
}

// Accumulates theta's gradient of <a, v_theta> and returns x's.
Tensor policy_pull_back(AlignmentProblem& problem, const States& s, const Tensor& a) {
  at::AutoGradMode on(true);
  const Tensor leaf = s.x.detach().requires_grad_(true);
  (problem.policy({leaf, s.t, s.rows}) * a).sum().backward();
  return leaf.grad();
}

// Steps N-1 ... N-K of the trajectory.
void sweep_back(AlignmentProblem& problem, const Trajectory& trajectory, int64_t depth,
                const Seed& seed, int64_t micro_batch) {
  const size_t n = trajectory.times.size() - 1;
  in_parts(seed.rows.numel(), micro_batch, [&](int64_t start, int64_t length) {
    const Tensor rows = seed.rows.narrow(0, start, length);
    Tensor a = seed.cotangent.narrow(0, start, length);
    for (size_t j = n; j-- > n - static_cast<size_t>(depth);) {
      const double h = trajectory.times[j + 1] - trajectory.times[j];
      const Tensor x = trajectory.states[j].index_select(0, rows);
      a = a + policy_pull_back(
                  problem, {x, at::full({length}, trajectory.times[j], x.options()), rows}, h * a);
    }
  });
}

}  // namespace

int64_t draw_truncation(const DraftOptions& o, int64_t steps, RandomStream random) {
  if (o.kind == "full") return steps;
  check_truncation(o, steps);
  if (o.kind == "uniform") return 1 + random.below(o.k);
  if (o.kind == "gaussian")
    return std::clamp<int64_t>(std::llround(static_cast<double>(o.k) + o.k_sd * random.normal()), 1,
                               steps);
  return o.k;
}

MethodReport Draft::update(AlignmentProblem& problem, const UpdateInput& input) const {
  MethodReport report;
  Stopwatch watch;
  const Trajectory trajectory = roll_out(problem, input);
  const int64_t batch = input.x0.size(0);
  const Tensor x1 = trajectory.final_state(), rows = row_numbers(batch, x1);
  report.rewards = reward_values(problem, x1);
  report.seconds["rollout"] = watch.lap();

  const auto steps = static_cast<int64_t>(input.times.size()) - 1;
  if (options_.kind != "lv") {
    const int64_t depth = draw_truncation(options_, steps, whole_update(input));
    report.values["depth"] = static_cast<double>(depth);
    const Seed seed = reward_seed(problem, clip_, options_.transform, x1, rows,
                                  static_cast<double>(batch), input.micro_batch, report);
    report.seconds["reward"] = watch.lap();
    sweep_back(problem, trajectory, depth, seed, input.micro_batch);
    report.seconds["train"] = watch.lap();
    return report;
  }

  const double t = input.times[input.times.size() - 2];
  std::vector<int64_t> shape = x1.sizes().slice(1).vec();
  shape.insert(shape.begin(), options_.lv_noises);
  const Tensor noises =
      keyed_normal(input.seed, Purpose::kPathNoise, input.update, input.first_sample, batch, shape)
          .to(x1.options());
  std::vector<Tensor> starts;
  for (int64_t i = 0; i < options_.lv_noises; ++i)
    starts.push_back(t * x1 + (1 - t) * noises.select(1, i));
  if (options_.lv_own_step) starts.push_back(trajectory.states[trajectory.states.size() - 2]);
  const double count = static_cast<double>(batch) * static_cast<double>(starts.size());
  for (const Tensor& x : starts) {
    const States states{x, at::full({batch}, t, x.options()), rows};
    const Tensor end = [&] {
      at::NoGradGuard no_grad;
      return one_step_guess(x, states.t, problem.rollout_velocity(x, states.t));
    }();
    const Seed seed = reward_seed(problem, clip_, options_.transform, end, rows, count,
                                  input.micro_batch, report);
    in_parts(seed.rows.numel(), input.micro_batch, [&](int64_t start, int64_t length) {
      policy_pull_back(problem, select(states, seed.rows.narrow(0, start, length)),
                       (1 - t) * seed.cotangent.narrow(0, start, length));
    });
  }
  report.seconds["train"] = watch.lap();
  return report;
}

Passes Draft::cost(const CostShape& s, const MethodReport& report) const {
  const double starts = static_cast<double>(options_.lv_noises + (options_.lv_own_step ? 1 : 0));
  if (options_.kind == "lv")
    return {.f = s.batch * (s.steps * s.rollout + starts * (s.rollout + s.policy)),
            .b = s.batch * starts * s.policy_graph};
  const double depth = report.values.at("depth");
  return {.f = s.batch * (s.steps * s.rollout + depth * s.policy),
          .b = s.batch * depth * s.policy_graph};
}

std::string Draft::cost_formula(const CostShape& s) const {
  if (options_.kind != "lv")
    return fmt::format("B N {}F + B K ({}F + {}B)", s.rollout, s.policy, s.policy_graph);
  return fmt::format("B N {}F + {} B ({}F + {}B)", s.rollout,
                     options_.lv_noises + (options_.lv_own_step ? 1 : 0), s.rollout + s.policy,
                     s.policy_graph);
}

}  // namespace vggflow
