#include "vggflow/algorithms/transitions.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <numeric>
#include <utility>

#include "vggflow/core/error.h"

namespace vggflow {

void check_transitions(const TransitionOptions& o, int64_t steps) {
  VGGFLOW_CHECK(o.bins <= steps, "[transitions] expected at most {} bins for {} steps, got {}",
                steps, steps, o.bins);
}

std::vector<int64_t> draw_transitions(const TransitionOptions& options, int64_t steps,
                                      RandomStream random) {
  check_transitions(options, steps);
  std::vector<int64_t> picked;
  for (int64_t b = 0; b < options.bins; ++b) {
    const int64_t begin = b * steps / options.bins, end = (b + 1) * steps / options.bins;
    const int64_t k = begin + random.below(end - begin);
    picked.push_back(options.skip_first_step ? std::max<int64_t>(k, 1) : k);
  }
  if (options.force_last_step) picked.push_back(steps - 1);
  return picked;
}

Trajectory roll_out(AlignmentProblem& problem, const UpdateInput& input) {
  return integrate([&](const Tensor& x, const Tensor& t) { return problem.rollout_velocity(x, t); },
                   input.x0, input.times);
}

namespace {

// The samples of a batch by step: those that are trained there, then the others. One tensor, so
// that they are copied to a device once.
class SamplesByStep {
 public:
  SamplesByStep(const StepsOfSamples& steps, size_t count, const Tensor& like) : trained_(count) {
    std::vector<int64_t> order;
    for (size_t k = 0; k < count; ++k) {
      std::vector<int64_t> others;
      for (size_t i = 0; i < steps.size(); ++i) {
        const bool is =
            std::find(steps[i].begin(), steps[i].end(), static_cast<int64_t>(k)) != steps[i].end();
        (is ? trained_[k] : others).push_back(static_cast<int64_t>(i));
      }
      order.insert(order.end(), trained_[k].begin(), trained_[k].end());
      order.insert(order.end(), others.begin(), others.end());
    }
    order_ = at::tensor(order, at::kLong).to(like.device()).view({-1, std::ssize(steps)});
  }
  const std::vector<int64_t>& numbers(size_t k) const { return trained_[k]; }
  Tensor trained(size_t k) const {
    return order_.select(0, static_cast<int64_t>(k)).narrow(0, 0, std::ssize(trained_[k]));
  }
  Tensor others(size_t k) const {
    const int64_t first = std::ssize(trained_[k]);
    return order_.select(0, static_cast<int64_t>(k)).narrow(0, first, order_.size(1) - first);
  }

 private:
  std::vector<std::vector<int64_t>> trained_;
  Tensor order_;
};

}  // namespace

VelocityDifference rollout_difference(AlignmentProblem& problem, const States& states) {
  const int64_t count = states.x.size(0);
  std::vector<Tensor> v, d;
  in_parts(count, (count + 1) / 2, [&](int64_t start, int64_t length) {
    const auto part = problem.rollout_difference(slice(states, start, length));
    v.push_back(part.velocity);
    d.push_back(part.difference);
  });
  return {at::cat(v), at::cat(d)};
}

Rollout roll_out(AlignmentProblem& problem, const UpdateInput& input, const StepsOfSamples& steps) {
  if (!problem.has_difference()) return {roll_out(problem, input), {}};
  const at::NoGradGuard no_grad;
  const SamplesByStep samples(steps, input.times.size() - 1, input.x0);
  std::vector<std::map<int64_t, Tensor>> differences(steps.size());
  size_t next = 0;
  const auto velocity = [&](const Tensor& x, const Tensor& t) {
    const size_t k = next++;
    const Tensor trained = samples.trained(k), others = samples.others(k);
    if (trained.numel() == 0) return problem.rollout_velocity(x, t);
    const States all{x, t, row_numbers(x.size(0), x)};
    const VelocityDifference v = rollout_difference(problem, select(all, trained));
    for (size_t i = 0; i < samples.numbers(k).size(); ++i)
      differences[static_cast<size_t>(samples.numbers(k)[i])][static_cast<int64_t>(k)] =
          v.difference[static_cast<int64_t>(i)];
    Tensor out = at::empty_like(x);
    out.index_copy_(0, trained, v.velocity);
    if (others.numel() > 0) out.index_copy_(0, others, problem.rollout_rows(select(all, others)));
    return out;
  };
  Trajectory path = integrate(velocity, input.x0, input.times);
  return {std::move(path), std::move(differences)};
}

Rollout roll_out(AlignmentProblem& problem, const UpdateInput& input,
                 const TransitionOptions& options) {
  return roll_out(problem, input, draw_steps(options, input));
}

namespace {

// The transitions that start at step k of a row, one for each pair (row, k). x_N starts one of
// velocity 0.
Transitions starting_at(const Trajectory& trajectory,
                        const std::vector<std::pair<int64_t, int64_t>>& places) {
  const auto& times = trajectory.times;
  const Tensor& like = trajectory.final_state();
  std::vector<Tensor> x, v;
  std::vector<double> t;
  std::vector<int64_t> rows;
  Transitions out;
  for (const auto& [row, k] : places) {
    const auto at = static_cast<size_t>(k);
    const Tensor here = trajectory.states[at][row];
    x.push_back(here);
    v.push_back(at + 1 == times.size()
                    ? at::zeros_like(here)
                    : (trajectory.states[at + 1][row] - here) / (times[at + 1] - times[at]));
    t.push_back(times[at]);
    rows.push_back(row);
    out.steps.push_back(k);
  }
  const auto stacked = [&](const std::vector<Tensor>& list) {
    return list.empty() ? joined(list, like) : at::stack(list);
  };
  out.states = {stacked(x), at::tensor(t, at::kDouble).to(like.scalar_type()).to(like.device()),
                at::tensor(rows, at::kLong).to(like.device())};
  out.velocity = stacked(v);
  return out;
}

}  // namespace

Transitions pick(const Trajectory& trajectory, const StepsOfSamples& steps) {
  std::vector<std::pair<int64_t, int64_t>> places;
  for (size_t i = 0; i < steps.size(); ++i) {
    for (const int64_t k : steps[i]) places.emplace_back(static_cast<int64_t>(i), k);
  }
  return starting_at(trajectory, places);
}

Transitions pick(const Rollout& rollout, const StepsOfSamples& steps) {
  Transitions out = pick(static_cast<const Trajectory&>(rollout), steps);
  if (rollout.differences.empty()) return out;
  std::vector<Tensor> d;
  for (size_t i = 0; i < steps.size(); ++i) {
    for (const int64_t k : steps[i]) {
      const auto found = rollout.differences[i].find(k);
      d.push_back(found == rollout.differences[i].end()
                      ? at::zeros_like(rollout.states.front()[static_cast<int64_t>(i)])
                      : found->second);
    }
  }
  out.difference = at::stack(d);
  return out;
}

StepsOfSamples draw_steps(const TransitionOptions& given, const UpdateInput& input, int64_t first) {
  TransitionOptions options = given;
  options.skip_first_step = given.skip_first_step && first == 0;
  StepsOfSamples steps;
  for (int64_t i = 0; i < input.x0.size(0); ++i) {
    steps.push_back(draw_transitions(options, static_cast<int64_t>(input.times.size()) - 1 - first,
                                     steps_stream(input, i)));
    for (int64_t& k : steps.back()) k += first;
  }
  return steps;
}

Transitions draw(const Rollout& rollout, const TransitionOptions& options,
                 const UpdateInput& input) {
  return pick(rollout, draw_steps(options, input));
}

Transitions all_steps(const Rollout& rollout) {
  std::vector<int64_t> every(rollout.times.size() - 1);
  std::iota(every.begin(), every.end(), int64_t{0});
  return pick(rollout, std::vector(static_cast<size_t>(rollout.states.front().size(0)), every));
}

Tensor places_of(const Transitions& all, const StepsOfSamples& steps) {
  std::map<std::pair<int64_t, int64_t>, int64_t> place;  // of (row, step)
  const std::vector<int64_t> rows = numbers(all.states.rows);
  for (size_t i = 0; i < all.steps.size(); ++i)
    place[{rows[i], all.steps[i]}] = static_cast<int64_t>(i);
  std::vector<int64_t> out;
  for (size_t i = 0; i < steps.size(); ++i) {
    for (const int64_t k : steps[i]) {
      const auto found = place.find({static_cast<int64_t>(i), k});
      if (found != place.end()) out.push_back(found->second);
    }
  }
  return at::tensor(out, at::kLong).to(all.states.x.device());
}

Transitions following(const Trajectory& trajectory, const Transitions& at) {
  const std::vector<int64_t> rows = numbers(at.states.rows);
  std::vector<std::pair<int64_t, int64_t>> places;
  for (size_t i = 0; i < at.steps.size(); ++i) places.emplace_back(rows[i], at.steps[i] + 1);
  return starting_at(trajectory, places);
}

Transitions choose(const Transitions& all, const Tensor& places) {
  Transitions out{select(all.states, places), all.velocity.index_select(0, places), {}};
  if (all.difference.defined()) out.difference = all.difference.index_select(0, places);
  for (const int64_t place : numbers(places))
    out.steps.push_back(all.steps[static_cast<size_t>(place)]);
  return out;
}

std::vector<int64_t> numbers(const Tensor& rows) {
  const Tensor list = rows.cpu().contiguous();
  return {list.const_data_ptr<int64_t>(), list.const_data_ptr<int64_t>() + list.numel()};
}

Tensor row_numbers(int64_t count, const Tensor& like) {
  return at::arange(count, like.options().dtype(at::kLong));
}

namespace {

// Each tensor of `s` that is there, by f.
template <class F>
States each(const States& s, F f) {
  const auto known = [&](const Tensor& x) { return x.defined() ? f(x) : x; };
  return {f(s.x), f(s.t), f(s.rows), known(s.end), known(s.gradient)};
}

}  // namespace

States select(const States& s, const Tensor& index) {
  return each(s, [&](const Tensor& x) { return x.index_select(0, index); });
}

States slice(const States& s, int64_t start, int64_t length) {
  return each(s, [&](const Tensor& x) { return x.narrow(0, start, length); });
}

void in_parts(int64_t count, int64_t micro_batch,
              const std::function<void(int64_t start, int64_t length)>& f) {
  for (int64_t start = 0; start < count; start += micro_batch)
    f(start, std::min(micro_batch, count - start));
}

double descend_in_parts(int64_t count, int64_t micro_batch, const Tensor& like,
                        const WholeBatch& whole,
                        const std::function<Tensor(int64_t start, int64_t length)>& loss) {
  Tensor sum = at::zeros({}, like.options().dtype(at::kDouble));
  in_parts(count, micro_batch, [&](int64_t start, int64_t length) {
    const Tensor part = loss(start, length);
    part.backward();
    sum += part.detach();
  });
  return whole.sum(sum.item<double>());
}

Tensor joined(const std::vector<Tensor>& parts, const Tensor& like) {
  return parts.empty() ? at::empty_like(like.narrow(0, 0, 0)) : at::cat(parts);
}

Tensor finite_rows(const Tensor& finite, const char* method, const WholeBatch& whole) {
  Tensor keep = finite.nonzero().flatten();
  VGGFLOW_CHECK(whole.count(keep.numel()) > 0,
                "[{}] no sample of this update has a finite reward and gradient; lower the "
                "learning rate or the reward's weight",
                method);
  return keep;
}

}  // namespace vggflow
