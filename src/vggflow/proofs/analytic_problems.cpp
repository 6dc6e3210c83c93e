#include "vggflow/proofs/analytic_problems.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

#include "vggflow/flow/sampling.h"
#include "vggflow/ops/functional.h"
#include "vggflow/ops/random_tensor.h"
#include "vggflow/ops/vjp.h"

namespace vggflow::analytic {

// Components stand in a dimension of their own: x (M, 1, d), t (M, 1, 1), means (J, d), c and a (M,
// J, 1).
struct MixtureField::Parts {
  Tensor t, r, c, a, v, p;  // r = x - t mu, v = mu + a r, p posterior
};

MixtureField::Parts MixtureField::parts(const Tensor& x, const Tensor& time) const {
  Parts o;
  const Tensor s2 = variances_.unsqueeze(1);
  o.t = time.view({-1, 1, 1});
  o.r = x.unsqueeze(1) - o.t * means_;
  o.c = o.t.square() * s2 + (1 - o.t).square();
  o.a = (o.t * s2 - (1 - o.t)) / o.c;
  o.v = means_ + o.a * o.r;
  const Tensor logits = weights_.log().unsqueeze(1) -
                        0.5 * static_cast<double>(x.size(1)) * o.c.log() -
                        o.r.square().sum(2, true) / (2 * o.c);
  o.p = at::softmax(logits, 1);
  return o;
}

Tensor MixtureField::operator()(const Tensor& x, const Tensor& t) const {
  const Parts o = parts(x, t);
  return (o.p * o.v).sum(1);
}

Dual MixtureField::operator()(const Dual& x, const Dual& t) const {
  const Parts o = parts(x.value, t.value);
  const Tensor dt = t.tangent.view({-1, 1, 1}), s2 = variances_.unsqueeze(1);
  const Tensor dr = x.tangent.unsqueeze(1) - dt * means_;
  const Tensor dc = 2 * (o.t * s2 - (1 - o.t)) * dt;
  const Tensor da = ((s2 + 1) * dt - o.a * dc) / o.c;
  const Tensor dv = da * o.r + o.a * dr;
  const Tensor dlogits = -0.5 * static_cast<double>(x.value.size(1)) * dc / o.c -
                         (o.r * dr).sum(2, true) / o.c +
                         o.r.square().sum(2, true) * dc / (2 * o.c.square());
  const Tensor dp = o.p * (dlogits - (o.p * dlogits).sum(1, true));
  return {(o.p * o.v).sum(1), (dp * o.v + o.p * dv).sum(1)};
}

BinnedLinear::BinnedLinear(const std::vector<double>& times, int64_t width)
    : Trainable(
          at::zeros({static_cast<int64_t>(times.size() - 1) * width * (width + 1)}, at::kDouble)),
      starts_(vector({times.begin(), times.end() - 1})),
      width_(width) {}

Tensor BinnedLinear::at_times(const Tensor& t) const {
  constexpr double kRounding = 1e-9;
  const Tensor k =
      (at::searchsorted(starts_, t.detach() + kRounding, /*out_int32=*/false, /*right=*/true) - 1)
          .clamp_min(0);
  return parameters.view({starts_.numel(), width_, width_ + 1}).index_select(0, k);
}

Tensor BinnedLinear::operator()(const Tensor& x, const Tensor& t) const {
  const Tensor p = at_times(t);
  return (p.narrow(2, 0, width_) * x.unsqueeze(1)).sum(2) + p.select(2, width_);
}

Dual BinnedLinear::operator()(const Dual& x, const Dual& t) const {
  const Tensor p = at_times(t.value), w = p.narrow(2, 0, width_);
  return {(w * x.value.unsqueeze(1)).sum(2) + p.select(2, width_),
          (w * x.tangent.unsqueeze(1)).sum(2)};
}

void BinnedLinear::set(int64_t k, const Tensor& w, const Tensor& b) {
  at::NoGradGuard no_grad;
  const Tensor p = parameters.view({starts_.numel(), width_, width_ + 1})[k];
  p.narrow(1, 0, width_).copy_(w);
  p.select(1, width_).copy_(b);
}

namespace {

constexpr int64_t kSinusoids = 256;  // as an MMDiT has

Tensor counted_down(const Tensor& t, double clock) { return clock * (1 - t); }
Dual counted_down(const Dual& t, double clock) {
  return {counted_down(t.value, clock), -clock * t.tangent};
}

Tensor mlp_start(int64_t width, int64_t times, int64_t hidden, uint64_t seed, double last) {
  const auto layer = [&](uint64_t id, int64_t out, int64_t in, double scale) {
    const Tensor w = keyed_normal(seed, Purpose::kInit, 0, id, 1, {out * in})[0].to(at::kDouble) *
                     (scale / std::sqrt(static_cast<double>(in)));
    return at::cat({w, at::zeros({out}, at::kDouble)});
  };
  return at::cat({layer(0, hidden, width + times, 1), layer(1, hidden, hidden, 1),
                  layer(2, width, hidden, last)});
}

}  // namespace

Mlp::Mlp(int64_t width, int64_t hidden, uint64_t seed, double last, double clock)
    : Trainable(mlp_start(width, clock > 0 ? kSinusoids : 1, hidden, seed, last)),
      width_(width),
      hidden_(hidden),
      clock_(clock) {}

template <TensorLike T>
T Mlp::apply(const T& x, const T& t) const {
  int64_t at = 0;
  const auto layer = [&](const T& in, int64_t out_width, int64_t in_width) {
    const Tensor w = parameters.narrow(0, at, out_width * in_width).view({out_width, in_width});
    const Tensor b = parameters.narrow(0, at + out_width * in_width, out_width);
    at += out_width * (in_width + 1);
    return ops::linear(in, w, b);
  };
  const T time = clock_ > 0 ? ops::timestep_embedding(counted_down(t, clock_), kSinusoids)
                            : ops::unsqueeze(t, 1);
  T h = ops::silu(layer(ops::cat({x, time}, 1), hidden_, width_ + primal(time).size(1)));
  h = ops::silu(layer(h, hidden_, hidden_));
  return layer(h, width_, hidden_);
}
template Tensor Mlp::apply<Tensor>(const Tensor&, const Tensor&) const;
template Dual Mlp::apply<Dual>(const Dual&, const Dual&) const;

Tensor Reward::gradient(const Tensor& x1) const {
  return gradient_of([this](const Tensor& x) { return (*this)(x); }, x1);
}

Tensor Quadratic::operator()(const Tensor& x1) const {
  const Tensor y = x1 - centre_;
  return offset_ - 0.5 * (y * y.matmul(matrix_.t())).sum(1);
}

Dual Quadratic::operator()(const Dual& x1) const {
  const Tensor y = x1.value - centre_;
  return {(*this)(x1.value), -(x1.tangent * y.matmul(matrix_.t())).sum(1)};
}

// log cosh y = y + log(1 + exp(-2 y)) - log 2.
Tensor LogCosh::operator()(const Tensor& x1) const {
  const Tensor y = (x1 - centre_).abs();
  return offset_ - k_ * (y + at::log1p(at::exp(-2 * y)) - std::log(2.0)).sum(1);
}

Dual LogCosh::operator()(const Dual& x1) const {
  return {(*this)(x1.value), -k_ * (at::tanh(x1.value - centre_) * x1.tangent).sum(1)};
}

Tensor Problem::reward_parts(const Tensor& x1, const Tensor&) {
  std::vector<Tensor> parts;
  for (const RewardPtr& r : rewards_) parts.push_back((*r)(x1));
  return at::stack(parts);
}

Dual Problem::reward_parts_tangent(const Dual& x1, const Tensor&) {
  std::vector<Tensor> values, tangents;
  for (const RewardPtr& r : rewards_) {
    const Dual part = (*r)(x1);
    values.push_back(part.value);
    tangents.push_back(part.tangent);
  }
  return {at::stack(values), at::stack(tangents)};
}

Tensor Problem::reward(const Tensor& x1, const Tensor& rows) {
  return at::tensordot(vector(weights_), reward_parts(x1, rows), {0}, {0});
}

Dual Problem::reward_tangent(const Dual& x1, const Tensor& rows) {
  const Dual parts = reward_parts_tangent(x1, rows);
  return {at::tensordot(vector(weights_), parts.value, {0}, {0}),
          at::tensordot(vector(weights_), parts.tangent, {0}, {0})};
}

namespace {

// Adds `weight` passes a sample to `count` when the gradient of `out` arrives.
void count_backward(const Tensor& out, double& count, double weight) {
  if (!out.requires_grad()) return;
  const auto samples = static_cast<double>(out.size(0));
  out.register_hook([&count, samples, weight](const Tensor&) { count += weight * samples; });
}

}  // namespace

Tensor Counted::flow(const Tensor& out) {
  passes.f += static_cast<double>(out.size(0));
  count_backward(out, passes.b, 1);
  return out;
}

Dual Counted::policy_tangent(const Dual& x, const Dual& t, const Tensor& rows) {
  passes.j += static_cast<double>(x.value.size(0));
  const Dual out = problem_.policy_tangent(x, t, rows);
  return {flow(out.value), out.tangent};
}

Tensor Counted::correction(const States& s) {
  const Tensor out = problem_.correction(s);
  passes.value_f += static_cast<double>(out.size(0));
  count_backward(out, passes.value_b, 1);
  return out;
}

Dual Counted::correction_tangent(const Dual& x, const Dual& t, const Tensor& rows) {
  const Dual out = problem_.correction_tangent(x, t, rows);
  passes.value_f += static_cast<double>(out.value.size(0));
  passes.value_j += static_cast<double>(out.value.size(0));
  count_backward(out.tangent, passes.value_b, 2);
  return out;
}

void Adam::step(Trainable& field, double learning_rate) {
  constexpr double kMean = 0.9, kSquare = 0.99, kEpsilon = 1e-12;
  at::NoGradGuard no_grad;
  const Tensor g = field.parameters.grad();
  if (!mean_.defined()) mean_ = at::zeros_like(g), square_ = at::zeros_like(g);
  ++steps_;
  mean_ = kMean * mean_ + (1 - kMean) * g;
  square_ = kSquare * square_ + (1 - kSquare) * g.square();
  const double m = 1 - std::pow(kMean, static_cast<double>(steps_)),
               s = 1 - std::pow(kSquare, static_cast<double>(steps_));
  field.parameters.sub_(learning_rate / m * mean_ / ((square_ / s).sqrt() + kEpsilon));
  field.parameters.mutable_grad().reset();
}

std::vector<double> uniform_grid(int64_t steps) {
  TimeGridOptions options;
  options.steps = steps;
  return time_grid(options);
}

Tensor noise(uint64_t seed, uint64_t update, int64_t count, int64_t width, uint64_t first_sample) {
  return keyed_normal(seed, Purpose::kNoise, update, first_sample, count, {width}).to(at::kDouble);
}

Tensor vector(const std::vector<double>& values) { return at::tensor(values, at::kDouble); }

Tensor matrix(const std::vector<std::vector<double>>& rows) {
  std::vector<Tensor> out;
  for (const auto& row : rows) out.push_back(vector(row));
  return at::stack(out);
}

States states(const Tensor& x, double t) {
  return {x, at::full({x.size(0)}, t, x.options()), at::arange(x.size(0))};
}

}  // namespace vggflow::analytic
