#include "vggflow/algorithms/adjoint.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "vggflow/ops/row_norms.h"
#include "vggflow/ops/vjp.h"

namespace vggflow {

Tensor base_pull_back(AlignmentProblem& problem, const States& s, const Tensor& a) {
  return vjp([&](const Tensor& x) { return problem.adjoint_base({x, s.t, s.rows}); }, s.x, a);
}

StepPullBack lean_step(AlignmentProblem& problem) {
  return [&problem](const States& s, double h, const Tensor& a) {
    return a + h * base_pull_back(problem, s, a);
  };
}

Tensor pull_back_step(const Trajectory& trajectory, size_t k, const Tensor& rows, const Tensor& a,
                      int64_t micro_batch, const StepPullBack& step) {
  const double h = trajectory.times[k + 1] - trajectory.times[k];
  const Tensor x = trajectory.states[k].index_select(0, rows),
               t = at::full({rows.numel()}, trajectory.times[k], x.options());
  std::vector<Tensor> parts;
  in_parts(rows.numel(), micro_batch, [&](int64_t start, int64_t length) {
    parts.push_back(step(slice({x, t, rows}, start, length), h, a.narrow(0, start, length)));
  });
  return joined(parts, a);
}

std::vector<Tensor> sweep(const Trajectory& trajectory, const Tensor& rows, const Tensor& end,
                          int64_t micro_batch, const StepPullBack& step, size_t first) {
  std::vector<Tensor> out(trajectory.times.size());
  out.back() = end;
  for (size_t k = trajectory.times.size() - 1; k-- > first;)
    out[k] = pull_back_step(trajectory, k, rows, out[k + 1], micro_batch, step);
  return out;
}

namespace {

// Place of every row in `rows`, -1 where it is not there.
std::vector<int64_t> places(const std::vector<int64_t>& rows, int64_t largest) {
  std::vector<int64_t> out(static_cast<size_t>(largest) + 1, -1);
  for (size_t i = 0; i < rows.size(); ++i) {
    if (rows[i] <= largest) out[static_cast<size_t>(rows[i])] = static_cast<int64_t>(i);
  }
  return out;
}

}  // namespace

Tensor gather(const std::vector<Tensor>& adjoints, const Transitions& transitions,
              const Tensor& rows) {
  if (transitions.steps.empty()) return at::empty_like(transitions.states.x);
  const auto of = numbers(transitions.states.rows);
  const auto place = places(numbers(rows), *std::max_element(of.begin(), of.end()));
  std::vector<Tensor> out;
  for (size_t i = 0; i < transitions.steps.size(); ++i) {
    const auto row = static_cast<size_t>(of[i]);
    out.push_back(adjoints[static_cast<size_t>(transitions.steps[i]) + 1][place[row]]);
  }
  return at::stack(out);
}

std::vector<double> mean_norms(const std::vector<Tensor>& adjoints, const WholeBatch& whole) {
  std::vector<Tensor> norms;  // (M) by step
  for (const Tensor& a : adjoints) {
    if (a.defined()) norms.push_back(row_norms(a));
  }
  if (norms.empty()) return std::vector<double>(adjoints.size());
  const Tensor by_step = whole.rows(at::stack(norms, 1)).t().contiguous();
  std::vector<Tensor> means;
  for (int64_t k = 0; k < by_step.size(0); ++k) means.push_back(by_step[k].mean());
  const Tensor all = at::stack(means).to(at::kCPU, at::kDouble);
  const double* next = all.const_data_ptr<double>();
  std::vector<double> out;
  for (const Tensor& a : adjoints) out.push_back(a.defined() ? *next++ : 0.0);
  return out;
}

Transitions keep_rows(const Transitions& all, const Tensor& rows) {
  const auto of = numbers(all.states.rows);
  const auto place = places(numbers(rows), *std::max_element(of.begin(), of.end()));
  std::vector<int64_t> index;
  for (size_t i = 0; i < of.size(); ++i) {
    if (place[static_cast<size_t>(of[i])] >= 0) index.push_back(static_cast<int64_t>(i));
  }
  return choose(all, at::tensor(index).to(all.states.x.device()));
}

}  // namespace vggflow
