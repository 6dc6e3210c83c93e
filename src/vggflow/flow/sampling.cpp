#include "vggflow/flow/sampling.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <iterator>

#include "vggflow/core/error.h"

namespace vggflow {
namespace {

std::vector<double> sigmas_of(const TimeGridOptions& o) {
  if (o.kind == "explicit") return o.sigmas;
  const double shift = o.shift > 0 ? o.shift : 1.0;
  const auto f = [&](double s) { return shift * s / (1 + (shift - 1) * s); };
  std::vector<double> sigmas;
  const auto n = static_cast<double>(o.steps);
  for (int64_t k = 0; k < o.steps; ++k) {
    const auto i = static_cast<double>(k);
    if (o.kind == "diffusers_default") {
      // The scheduler's stored sigmas run from f(1) = 1 to f(1/1000); it ramps between them
      // linearly and shifts again.
      const double low = f(1.0 / 1000), s = o.steps == 1 ? 1.0 : 1.0 + (low - 1.0) * i / (n - 1);
      sigmas.push_back(f(s));
    } else {
      sigmas.push_back(f(1.0 - i / n));
    }
  }
  return sigmas;
}

}  // namespace

TimeGridOptions resolved_grid(TimeGridOptions o, double model_shift, bool model_shifts_twice) {
  if (o.kind == "auto") o.kind = model_shifts_twice ? "diffusers_default" : "single_shift";
  if (o.shift == 0) o.shift = model_shift;
  return o;
}

std::vector<double> time_grid(const TimeGridOptions& options) {
  const int64_t levels = std::ssize(options.sigmas);
  VGGFLOW_CHECK(options.kind != "explicit" || options.steps == TimeGridOptions{}.steps ||
                    options.steps == levels,
                "[time_grid] expected as many steps as the explicit grid has noise levels, {}, got "
                "{}: leave steps out",
                levels, options.steps);
  std::vector<double> times;
  for (const double s : sigmas_of(options)) times.push_back(1.0 - s);
  times.push_back(1.0);
  VGGFLOW_CHECK(times.size() > 1 && times.front() == 0.0,
                "[time_grid] expected noise levels that start at 1 (flow time 0), got {}",
                times.size() > 1 ? 1 - times.front() : 0.0);
  for (size_t k = 1; k < times.size(); ++k) {
    VGGFLOW_CHECK(times[k] > times[k - 1],
                  "[time_grid] expected strictly decreasing noise levels, got {} after {}",
                  1 - times[k], 1 - times[k - 1]);
  }
  return times;
}

Tensor expand_time(const Tensor& t, const Tensor& x) {
  std::vector<int64_t> shape(static_cast<size_t>(x.dim()), 1);
  shape[0] = t.size(0);
  return t.reshape(shape);
}

Tensor one_step_guess(const Tensor& x, const Tensor& t, const Tensor& v) {
  return x + (1 - expand_time(t, x)) * v;
}

namespace {

Tensor euler_step(const VelocityFunction& velocity, const Tensor& x, double t, double t_next) {
  return x + (t_next - t) * velocity(x, at::full({x.size(0)}, t, x.options()));
}

}  // namespace

Trajectory integrate(const VelocityFunction& velocity, const Tensor& x0,
                     const std::vector<double>& times) {
  at::NoGradGuard no_grad;
  Trajectory trajectory{times, {x0}};
  for (size_t k = 0; k + 1 < times.size(); ++k) {
    trajectory.states.push_back(
        euler_step(velocity, trajectory.states.back(), times[k], times[k + 1]));
  }
  return trajectory;
}

Tensor sample(const VelocityFunction& velocity, const Tensor& x0,
              const std::vector<double>& times) {
  at::NoGradGuard no_grad;
  Tensor x = x0;
  for (size_t k = 0; k + 1 < times.size(); ++k) x = euler_step(velocity, x, times[k], times[k + 1]);
  return x;
}

}  // namespace vggflow
