#include "vggflow/algorithms/draft.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "vggflow/algorithms/surrogate.h"
#include "vggflow/algorithms/transitions.h"
#include "vggflow/core/error.h"
#include "vggflow/ops/random_tensor.h"

namespace vggflow {
namespace {

// -f'(r) c grad r / count of the finite rows, and the loss they make.
struct Seed {
  Tensor rows, cotangent;
};
Seed reward_seed(AlignmentProblem& problem, const RewardClipOptions& clip,
                 const RewardTransformOptions& transform, const Tensor& x1, const Tensor& rows,
                 double count, const UpdateInput& input, MethodReport& report) {
  const WholeBatch& whole = input.whole;
  const RewardGradients r = reward_gradients(problem, clip, x1, rows, input.micro_batch, whole);
  const Tensor keep = finite_rows(r.finite, "draft", whole);
  report.dropped += whole.count(rows.numel() - keep.numel());
  report.values["clip_threshold"] = r.threshold;
  report.loss["reward"] -=
      whole.sum(transformed(transform, r.reward.index_select(0, keep)).sum().item<double>()) /
      count;
  const Tensor cotangent =
      -expand_time(transform_slope(transform, r.reward), r.gradient) * r.gradient / count;
  return {keep, cotangent.index_select(0, keep)};
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

void check_truncation(const DraftOptions& o, int64_t steps) {
  VGGFLOW_CHECK(o.k <= steps, "[draft] expected draft.k of at most {} (the steps), got {}", steps,
                o.k);
}

}  // namespace

int64_t draw_truncation(const DraftOptions& o, int64_t steps, RandomStream random) {
  if (o.kind == DraftKind::kFull) return steps;
  check_truncation(o, steps);
  if (o.kind == DraftKind::kUniform) return 1 + random.below(o.k);
  if (o.kind != DraftKind::kGaussian) return o.k;
  const double drawn = static_cast<double>(o.k) + o.k_sd * random.normal();
  return std::clamp<int64_t>(std::llround(drawn), 1, steps);
}

namespace {

// The last K steps of the trajectory itself.
class Draft : public Method {
 public:
  Draft(const DraftOptions& options, const RewardClipOptions& clip)
      : options_(options), clip_(clip) {}
  MethodReport update(AlignmentProblem& problem, const UpdateInput& input) const override;
  void check(int64_t steps) const override {
    if (options_.kind != DraftKind::kFull) check_truncation(options_, steps);
  }
  Passes cost(const CostShape& s, const MethodReport& report) const override {
    return passes(s, report.values.at("depth"));
  }
  Passes mean_cost(const CostShape& s) const override { return passes(s, mean_depth(s.steps)); }
  double trained_states(const CostShape& s) const override { return s.batch * mean_depth(s.steps); }
  Demand demand(const CostShape& s) const override {
    return {.transitions = s.batch, .reward_gradients = s.batch, .policy_input = true};
  }
  std::string cost_formula(const CostShape& s) const override {
    return fmt::format("B N {}F + B K ({}F + {}B)", s.rollout, s.policy, s.policy_graph);
  }

 private:
  double mean_depth(double steps) const;
  static Passes passes(const CostShape& s, double depth) {
    return {.f = s.batch * (s.steps * s.rollout + depth * s.policy),
            .b = s.batch * depth * s.policy_graph};
  }
  DraftOptions options_;
  RewardClipOptions clip_;
};

MethodReport Draft::update(AlignmentProblem& problem, const UpdateInput& input) const {
  MethodReport report;
  const WholeBatch& whole = input.whole;
  PhaseWatch watch(whole);
  const Trajectory trajectory = roll_out(problem, input);
  const int64_t batch = input.x0.size(0);
  const Tensor& x1 = trajectory.final_state();
  const Tensor rows = row_numbers(batch, x1);
  report.rewards = whole.rows(reward_values(problem, x1));
  report.seconds["rollout"] = watch.lap();

  const int64_t depth =
      draw_truncation(options_, static_cast<int64_t>(input.times.size()) - 1, whole_update(input));
  report.values["depth"] = static_cast<double>(depth);
  const Seed seed = reward_seed(problem, clip_, options_.transform, x1, rows,
                                whole.sum(static_cast<double>(batch)), input, report);
  report.seconds["reward"] = watch.lap();
  sweep_back(problem, trajectory, depth, seed, input.micro_batch);
  report.seconds["train"] = watch.lap();
  return report;
}

double Draft::mean_depth(double steps) const {
  const auto k = static_cast<double>(options_.k);
  return options_.kind == DraftKind::kFull      ? steps
         : options_.kind == DraftKind::kUniform ? (1 + k) / 2
                                                : k;
}

// One step from each of several noised copies of the finished end point.
class DraftLv : public Method {
 public:
  DraftLv(const DraftOptions& options, const RewardClipOptions& clip)
      : options_(options), clip_(clip) {}
  MethodReport update(AlignmentProblem& problem, const UpdateInput& input) const override;
  Passes cost(const CostShape& s, const MethodReport&) const override {
    return {.f = s.batch * (s.steps * s.rollout + starts() * (s.rollout + s.policy)),
            .b = s.batch * starts() * s.policy_graph};
  }
  Demand demand(const CostShape& s) const override {
    return {.transitions = s.batch, .reward_gradients = s.batch * starts(), .policy_input = true};
  }
  double trained_states(const CostShape& s) const override { return s.batch * starts(); }
  std::string cost_formula(const CostShape& s) const override {
    return fmt::format("B N {}F + {} B ({}F + {}B)", s.rollout, starts(), s.rollout + s.policy,
                       s.policy_graph);
  }

 private:
  double starts() const {
    return static_cast<double>(options_.lv_noises + (options_.lv_own_step ? 1 : 0));
  }
  std::vector<Tensor> starting_points(const Trajectory& trajectory, const UpdateInput& input) const;
  DraftOptions options_;
  RewardClipOptions clip_;
};

std::vector<Tensor> DraftLv::starting_points(const Trajectory& trajectory,
                                             const UpdateInput& input) const {
  const Tensor x1 = trajectory.final_state();
  const double t = input.times[input.times.size() - 2];
  std::vector<int64_t> shape = x1.sizes().slice(1).vec();
  shape.insert(shape.begin(), options_.lv_noises);
  const Tensor noises = keyed_normal(input.seed, Purpose::kPathNoise, input.update,
                                     input.first_sample, x1.size(0), shape)
                            .to(x1.options());
  std::vector<Tensor> starts;
  for (int64_t i = 0; i < options_.lv_noises; ++i)
    starts.push_back(t * x1 + (1 - t) * noises.select(1, i));
  if (options_.lv_own_step) starts.push_back(trajectory.states[trajectory.states.size() - 2]);
  return starts;
}

MethodReport DraftLv::update(AlignmentProblem& problem, const UpdateInput& input) const {
  MethodReport report;
  const WholeBatch& whole = input.whole;
  PhaseWatch watch(whole);
  const Trajectory trajectory = roll_out(problem, input);
  const int64_t batch = input.x0.size(0);
  const Tensor rows = row_numbers(batch, input.x0);
  report.rewards = whole.rows(reward_values(problem, trajectory.final_state()));
  report.seconds["rollout"] = watch.lap();

  const double t = input.times[input.times.size() - 2];
  const double count = whole.sum(static_cast<double>(batch)) * starts();
  for (const Tensor& x : starting_points(trajectory, input)) {
    const States states{x, at::full({batch}, t, x.options()), rows};
    const Tensor end = [&] {
      at::NoGradGuard no_grad;
      return one_step_guess(x, states.t, problem.rollout_velocity(x, states.t));
    }();
    const Seed seed =
        reward_seed(problem, clip_, options_.transform, end, rows, count, input, report);
    in_parts(seed.rows.numel(), input.micro_batch, [&](int64_t start, int64_t length) {
      policy_pull_back(problem, select(states, seed.rows.narrow(0, start, length)),
                       (1 - t) * seed.cotangent.narrow(0, start, length));
    });
  }
  report.seconds["train"] = watch.lap();
  return report;
}

}  // namespace

MethodTrials DraftOptions::trials() {
  return {.variants = {{"full", "kind=full"},
                       {"uniform", "kind=uniform k=3"},
                       {"gaussian", "kind=gaussian k=3"},
                       {"lv", "kind=lv"},
                       {"lv with own step", "kind=lv lv_own_step=true"}}};
}

std::unique_ptr<Method> make_draft(const DraftOptions& options, const RewardClipOptions& clip) {
  if (options.kind == DraftKind::kLv) return std::make_unique<DraftLv>(options, clip);
  return std::make_unique<Draft>(options, clip);
}

}  // namespace vggflow
