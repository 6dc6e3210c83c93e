#include "vggflow/algorithms/value_return.h"

#include <ATen/ATen.h>

#include <vector>

#include "vggflow/algorithms/adjoint.h"

namespace vggflow {
namespace {

// |target|^2, or what it is taken for where that is next to nothing beside the reward's gradient.
Tensor weight_of(const Tensor& target, const Tensor& gradient_size) {
  constexpr double kLeast = 1e-3;
  return at::maximum(target.flatten(1).square().sum(1), kLeast * gradient_size).clamp_min(1e-30);
}

// The states of one part, by place.
Tensor places_in(const Transitions& at, int64_t part, int64_t parts, const UpdateInput& input) {
  const auto first = static_cast<int64_t>(input.first_sample + input.update);
  const Tensor steps = at::tensor(at.steps, at::kLong).to(at.states.rows.device());
  return (at.states.rows + steps + first).remainder(parts).eq(part).nonzero().flatten();
}

}  // namespace

double train_on_return(AlignmentProblem& problem, const Trajectory& trajectory,
                       const RewardGradients& end, const Transitions& at, const Tensor& guess,
                       int64_t parts, const UpdateInput& input) {
  const WholeBatch& whole = input.whole;
  const Tensor rows = finite_rows(end.finite, "vgg_flow", whole);
  const auto adjoints = sweep(trajectory, rows, -end.gradient.index_select(0, rows),
                              input.micro_batch, lean_step(problem));
  const Tensor kept = at::isin(at.states.rows, rows).nonzero().flatten();
  const Transitions swept = choose(at, kept);
  const Tensor known = guess.index_select(0, kept), target = gather(adjoints, swept, rows);
  const Tensor size = end.gradient.flatten(1).square().sum(1).index_select(0, swept.states.rows);
  Tensor sum = at::zeros({}, known.options().dtype(at::kDouble));
  for (int64_t part = 0; part < parts; ++part) {
    const Tensor places = places_in(swept, part, parts, input);
    const auto total = static_cast<double>(whole.count(places.numel()));
    in_parts(places.numel(), input.micro_batch, [&](int64_t start, int64_t length) {
      const Tensor some = places.narrow(0, start, length);
      const Tensor a = target.index_select(0, some);
      const Tensor error =
          known.index_select(0, some) + problem.correction(select(swept.states, some)) - a;
      const Tensor relative =
          error.flatten(1).square().sum(1) / weight_of(a, size.index_select(0, some));
      (relative.sum() / total).backward();
      sum += relative.detach().sum(at::kDouble);
    });
    if (part + 1 < parts && input.step_value) input.step_value();
  }
  return whole.sum(sum.item<double>()) / static_cast<double>(whole.count(known.size(0)));
}

}  // namespace vggflow
