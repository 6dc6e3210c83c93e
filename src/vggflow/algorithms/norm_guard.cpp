#include "vggflow/algorithms/norm_guard.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "vggflow/algorithms/wrapped_problem.h"
#include "vggflow/flow/sampling.h"
#include "vggflow/ops/row_norms.h"

namespace vggflow {
namespace {

constexpr double kTiny = 1e-12;

// Columns of the sums by step.
enum Column : int64_t { kStates, kRatio, kAbove, kCosine, kEnergy, kPenalty, kColumns };

// A problem whose policy is watched where it is trained.
class GuardedProblem : public WrappedProblem {
 public:
  GuardedProblem(AlignmentProblem& problem, const NormGuardOptions& options,
                 const std::vector<double>& times, const Tensor& like, double states)
      : WrappedProblem(problem),
        options_(options),
        starts_(at::tensor(std::vector<double>(times.begin(), times.end() - 1), at::kDouble)
                    .to(like.options())),
        states_(states),
        sums_(at::zeros({starts_.numel(), kColumns}, like.options().dtype(at::kDouble))) {}

  Tensor policy_known(const States& s, const Tensor& velocity) override {
    const Tensor v = problem_.policy_known(s, velocity);
    watch(s, v, base_value(s), v.detach());
    return v;
  }
  Tensor policy_trained(const States& s) override {
    const Tensor v = problem_.policy_trained(s);
    watch(s, v, base_value(s), v.detach());
    return v;
  }
  Tensor difference_known(const States& s, const Tensor& difference) override {
    const Tensor d = problem_.difference_known(s, difference), base = base_value(s);
    watch(s, d, base, base + d.detach());
    return d;
  }
  // (N, kColumns) of this share.
  const Tensor& sums() const { return sums_; }

  Tensor rollout_velocity(const Tensor& x, const Tensor& t) override {
    return problem_.rollout_velocity(x, t);
  }
  Tensor policy(const States& s) override { return problem_.policy(s); }
  Tensor lagged(const States& s) override { return problem_.lagged(s); }
  bool has_difference() const override { return problem_.has_difference(); }
  Tensor rollout_rows(const States& s) override { return problem_.rollout_rows(s); }
  VelocityDifference rollout_difference(const States& s) override {
    return problem_.rollout_difference(s);
  }
  Dual policy_tangent(const Dual& x, const Dual& t, const Tensor& rows) override {
    return problem_.policy_tangent(x, t, rows);
  }
  Tensor base(const States& s) override { return problem_.base(s); }
  Tensor adjoint_base(const States& s) override { return problem_.adjoint_base(s); }
  bool adjoint_is_base() const override { return problem_.adjoint_is_base(); }

 private:
  Tensor base_value(const States& s) const {
    at::NoGradGuard no_grad;
    return problem_.base({s.x.detach(), s.t, s.rows});
  }

  // Notes v_theta beside v_base, and has the hinge's gradient added to what reaches `trained`.
  void watch(const States& s, const Tensor& trained, const Tensor& base, const Tensor& v) {
    at::NoGradGuard no_grad;
    const Tensor size = row_norms(v), base_size = row_norms(base).clamp_min(kTiny);
    const Tensor ratio = size / base_size, over = (ratio - 1 - options_.margin).clamp_min(0);
    const Tensor cosine = (v * base).flatten(1).sum(1) / (size * base_size).clamp_min(kTiny);
    const Tensor energy = (v - base).square().flatten(1).mean(1);
    const Tensor rows = at::stack({at::ones_like(ratio), ratio, (ratio > 1).to(ratio.dtype()),
                                   cosine, energy, options_.weight * over.square()},
                                  1)
                            .to(at::kDouble);
    sums_.index_add_(0, (s.t.unsqueeze(1) - starts_).abs().argmin(1), rows);
    if (options_.weight == 0 || !trained.requires_grad()) return;
    const Tensor pull =
        v *
        expand_time(2 * options_.weight / states_ * over / (size * base_size).clamp_min(kTiny), v);
    trained.register_hook([pull](const Tensor& gradient) { return gradient + pull; });
  }

  const NormGuardOptions& options_;
  Tensor starts_;
  double states_;
  Tensor sums_;
};

std::vector<double> list_of(const Tensor& x) {
  const Tensor host = x.to(at::kCPU, at::kDouble).contiguous();
  return {host.const_data_ptr<double>(), host.const_data_ptr<double>() + host.numel()};
}

// What the sums of the whole batch say.
void tell(const Tensor& sums, const NormGuardOptions& options, MethodReport& report) {
  const std::vector<double> all = list_of(sums.sum(0));
  report.values["guarded_states"] = all[kStates];
  if (all[kStates] == 0) return;
  const auto mean = [&](Column c) { return all[c] / all[kStates]; };
  report.values["norm_ratio"] = mean(kRatio);
  report.values["norm_above"] = mean(kAbove);
  report.values["velocity_cosine"] = mean(kCosine);
  report.values["policy_energy"] = mean(kEnergy);
  if (options.weight > 0) report.loss["norm"] = mean(kPenalty);
  const Tensor count = sums.select(1, kStates).clamp_min(1);
  report.series["norm_ratio"] = list_of(sums.select(1, kRatio) / count);
  report.series["velocity_cosine"] = list_of(sums.select(1, kCosine) / count);
}

class Guarded : public Method {
 public:
  Guarded(std::unique_ptr<Method> method, const NormGuardOptions& options)
      : method_(std::move(method)), options_(options) {}

  MethodReport update(AlignmentProblem& problem, const UpdateInput& input) const override {
    if (!options_.measures(input.update)) return method_->update(problem, input);
    const CostShape shape{.batch = input.whole.sum(static_cast<double>(input.x0.size(0))),
                          .steps = static_cast<double>(input.times.size()) - 1};
    GuardedProblem watched(problem, options_, input.times, input.x0,
                           method_->trained_states(shape));
    MethodReport report = method_->update(watched, input);
    tell(input.whole.rows(watched.sums().unsqueeze(0)).sum(0), options_, report);
    return report;
  }
  void check(int64_t steps) const override { method_->check(steps); }
  Passes cost(const CostShape& s, const MethodReport& report) const override {
    Passes p = method_->cost(s, report);
    const auto states = report.values.find("guarded_states");
    if (states != report.values.end()) p.f += states->second * s.base;
    return p;
  }
  Passes mean_cost(const CostShape& s) const override {
    Passes p = method_->mean_cost(s);
    p.f += trained_states(s) * s.base / updates_between();
    return p;
  }
  Demand demand(const CostShape& s) const override { return method_->demand(s); }
  double trained_states(const CostShape& s) const override { return method_->trained_states(s); }
  std::string cost_formula(const CostShape& s) const override {
    CostShape one = s;
    one.batch = 1;
    return fmt::format(
        "{} + {:g} B {}F{}", method_->cost_formula(s), trained_states(one), s.base,
        updates_between() > 1 ? fmt::format(" every {} updates", updates_between()) : "");
  }
  bool trains_value() const override { return method_->trains_value(); }
  bool shows_guess() const override { return method_->shows_guess(); }
  bool minimises_objective() const override { return method_->minimises_objective(); }
  bool scales_with_beta() const override { return method_->scales_with_beta(); }
  bool needs_reward_gradient() const override { return method_->needs_reward_gradient(); }
  int64_t group() const override { return method_->group(); }
  std::optional<double> lag() const override { return method_->lag(); }
  double beta() const override { return method_->beta(); }

 private:
  double updates_between() const {
    return options_.weight > 0 ? 1 : static_cast<double>(options_.every);
  }
  std::unique_ptr<Method> method_;
  NormGuardOptions options_;
};

}  // namespace

std::unique_ptr<Method> guarded(std::unique_ptr<Method> method, const NormGuardOptions& options) {
  if (options.weight == 0 && options.every == 0) return method;
  return std::make_unique<Guarded>(std::move(method), options);
}

}  // namespace vggflow
