#include "vggflow/algorithms/flowbp.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <numeric>

#include "vggflow/core/error.h"

namespace vggflow {
namespace {

double length_of(const std::vector<double>& times, int64_t k) {
  const auto i = static_cast<size_t>(k);
  return times[i + 1] - times[i];
}

// g of sparse and bridge.
double scale_of(const std::vector<double>& times, const std::vector<int64_t>& active,
                double rescale) {
  double sum = 0;
  for (const int64_t k : active) sum += length_of(times, k);
  return 1 + rescale * ((times.back() - times.front()) / sum - 1);
}

}  // namespace

std::vector<int64_t> draw_late(int64_t first, int64_t length, int64_t count, double bias,
                               RandomStream& random) {
  std::vector<double> weights;
  std::vector<int64_t> left, out;
  for (int64_t i = 0; i < length; ++i) {
    left.push_back(first + i);
    weights.push_back(std::pow(static_cast<double>(i + 1) / static_cast<double>(length), bias));
  }
  for (int64_t i = 0; i < count; ++i) {
    const int64_t place = random.weighted(weights);
    out.push_back(left[static_cast<size_t>(place)]);
    left.erase(left.begin() + place);
    weights.erase(weights.begin() + place);
  }
  std::sort(out.begin(), out.end());
  return out;
}

Surrogate sparse_surrogate(const std::vector<double>& times, const std::vector<int64_t>& active,
                           double rescale) {
  const double g = scale_of(times, active, rescale);
  Surrogate out;
  for (const int64_t k : active) out.late.push_back({k, g * length_of(times, k)});
  return out;
}

Surrogate bridge_surrogate(const std::vector<double>& times, const std::vector<int64_t>& active,
                           int64_t j, double rescale) {
  const double g = scale_of(times, active, rescale);
  Surrogate out;
  for (const int64_t k : active) {
    const StepTerm term{k, g * length_of(times, k)};
    if (k == j) {
      out.joint = term;
    } else {
      (k < j ? out.early : out.late).push_back(term);
    }
  }
  return out;
}

namespace {

// The integral from a to b of the i-th Lagrange polynomial on the nodes: Gauss-Legendre with three
// points is exact up to degree 5.
double lagrange_weight(const std::vector<double>& nodes, size_t i, double a, double b) {
  const double half = (b - a) / 2, far = std::sqrt(0.6);
  constexpr std::array<double, 3> kShares{5.0 / 9, 8.0 / 9, 5.0 / 9};
  const std::array<double, 3> points{-far, 0, far};
  double sum = 0;
  for (size_t q = 0; q < 3; ++q) {
    const double t = a + half * (1 + points[q]);
    double value = 1;
    for (size_t m = 0; m < nodes.size(); ++m) {
      if (m != i) value *= (t - nodes[m]) / (nodes[i] - nodes[m]);
    }
    sum += kShares[q] * half * value;
  }
  return sum;
}

}  // namespace

Leg lagrange_leg(const std::vector<double>& times, int64_t start, int64_t target, int64_t order) {
  const int64_t length = target - start, count = std::min(order, length);
  Leg leg{start, target, {}};
  std::vector<double> nodes;
  for (int64_t i = 0; i < count; ++i) {
    // Rounded half to even, as the published code rounds.
    const double along =
        count > 1 ? static_cast<double>(i * (length - 1)) / static_cast<double>(count - 1) : 0.0;
    const int64_t k = start + std::llrint(along);
    leg.supports.push_back({k, 0});
    nodes.push_back(times[static_cast<size_t>(k)]);
  }
  for (size_t i = 0; i < nodes.size(); ++i)
    leg.supports[i].weight = lagrange_weight(nodes, i, times[static_cast<size_t>(start)],
                                             times[static_cast<size_t>(target)]);
  return leg;
}

namespace {

// The trained supports of a leg: its start and its second one.
std::vector<StepTerm> trained(const Leg& leg, const LagrangeOptions& o) {
  double all = 0, some = 0;
  for (const StepTerm& s : leg.supports) all += std::abs(s.weight);
  std::vector<StepTerm> out(leg.supports.begin(),
                            leg.supports.begin() + std::min<int64_t>(2, std::ssize(leg.supports)));
  for (const StepTerm& s : out) some += std::abs(s.weight);
  const double scale = 1 + o.rescale * (all / some - 1);
  for (size_t i = 0; i < out.size(); ++i) out[i].weight *= scale * (i == 0 ? 1 : o.second_scale);
  return out;
}

}  // namespace

Surrogate lagrange_surrogate(const std::pair<Leg, Leg>& legs, const LagrangeOptions& o) {
  std::vector<StepTerm> last = trained(legs.second, o);
  const StepTerm joint = last.front();
  last.erase(last.begin());
  return {.late = last, .joint = joint, .early = trained(legs.first, o)};
}

namespace {

// Gamma(shape, 1), shape >= 1 (Marsaglia and Tsang 2000).
double draw_gamma(double shape, RandomStream& random) {
  const double d = shape - 1.0 / 3, c = 1 / std::sqrt(9 * d);
  while (true) {
    const double x = random.normal(), v = std::pow(1 + c * x, 3);
    if (v > 0 && std::log(random.uniform()) < 0.5 * x * x + d - d * v + d * std::log(v))
      return d * v;
  }
}

}  // namespace

std::pair<int64_t, int64_t> draw_legs(const LagrangeOptions& o, int64_t steps,
                                      RandomStream& random) {
  std::vector<double> parts;
  for (const double shape : o.lengths) parts.push_back(draw_gamma(shape, random));
  const double sum = std::accumulate(parts.begin(), parts.end(), 0.0);
  const auto length = [&](size_t i) {
    return std::max<int64_t>(1, std::llround(parts[i] / sum * static_cast<double>(steps)));
  };
  int64_t after = std::min(length(0), steps - 2);
  int64_t before = std::min(length(2), steps - 1 - after);
  const int64_t over = std::max<int64_t>(0, after - o.most_after);
  after -= over;
  before += over;
  return {before, steps - after};
}

MethodTrials FlowBpOptions::trials() {
  return {.variants = {{"sparse", "kind=sparse"},
                       {"sparse, normalised", "kind=sparse sparse.rescale=1 sparse.k=2"},
                       {"bridge", "kind=bridge"},
                       {"bridge, all", "kind=bridge bridge.k=6 bridge.alpha=1"},
                       {"order 1", "lagrange.order=1"},
                       {"order 2, rescaled", "lagrange.order=2 lagrange.rescale=1"}}};
}

void FlowBp::check(int64_t steps) const {
  if (options_.kind == FlowBpKind::kLagrange) {
    VGGFLOW_CHECK(steps >= 3,
                  "[flowbp] expected time_grid.steps of at least 3 for lagrange, got {}", steps);
    const auto& lengths = options_.lagrange.lengths;
    VGGFLOW_CHECK(lengths.size() == 3 && *std::min_element(lengths.begin(), lengths.end()) >= 1,
                  "[flowbp] expected three flowbp.lagrange.lengths of at least 1, got [{}]",
                  fmt::join(lengths, ", "));
    return;
  }
  const bool sparse = options_.kind == FlowBpKind::kSparse;
  const int64_t k = sparse ? options_.sparse.k : options_.bridge.k;
  VGGFLOW_CHECK(k <= steps, "[flowbp] expected flowbp.{}.k of at most {} (the steps), got {}",
                word_of(options_.kind), steps, k);
}

namespace {

Surrogate draw_sparse(const SparseOptions& o, const std::vector<double>& times,
                      RandomStream& random) {
  const int64_t steps = std::ssize(times) - 1;
  return sparse_surrogate(times, draw_late(0, steps, o.k, o.late_bias, random), o.rescale);
}

Surrogate draw_bridge(const BridgeOptions& o, const std::vector<double>& times,
                      RandomStream& random) {
  const int64_t steps = std::ssize(times) - 1;
  const int64_t j = draw_two_steps(steps, random).second;
  const int64_t before = std::clamp<int64_t>(
      std::llround(static_cast<double>(o.k * j) / static_cast<double>(steps)), 1, o.k - 1);
  std::vector<int64_t> active = draw_late(0, j, before, o.late_bias, random);
  active.push_back(j);
  for (const int64_t k : draw_late(j + 1, steps - j - 1, o.k - before - 1, o.late_bias, random))
    active.push_back(k);
  return bridge_surrogate(times, active, j, o.rescale);
}

DrawnSurrogate draw_lagrange(const LagrangeOptions& o, const std::vector<double>& times,
                             RandomStream& random) {
  const int64_t steps = std::ssize(times) - 1;
  const auto [k, j] = draw_legs(o, steps, random);
  const std::pair<Leg, Leg> legs{lagrange_leg(times, k, j, o.order),
                                 lagrange_leg(times, j, steps, o.order)};
  return {lagrange_surrogate(legs, o), legs};
}

// How many of the legs' starts have a negative weight, over how many legs there are.
double negative_starts(const std::vector<std::pair<Leg, Leg>>& legs, const WholeBatch& whole) {
  double negative = 0;
  for (const auto& both : legs) {
    for (const Leg* leg : {&both.first, &both.second})
      negative += leg->supports.front().weight < 0 ? 1 : 0;
  }
  return whole.sum(negative) / whole.sum(2 * static_cast<double>(legs.size()));
}

}  // namespace

DrawnSurrogate draw_flowbp(const FlowBpOptions& o, const std::vector<double>& times,
                           RandomStream random) {
  switch (o.kind) {
    case FlowBpKind::kSparse:
      return {draw_sparse(o.sparse, times, random), {}};
    case FlowBpKind::kBridge:
      return {draw_bridge(o.bridge, times, random), {}};
    case FlowBpKind::kLagrange:
      break;
  }
  return draw_lagrange(o.lagrange, times, random);
}

Surrogates FlowBp::draw(const Trajectory& trajectory, const UpdateInput& input) const {
  const bool lagrange = options_.kind == FlowBpKind::kLagrange;
  Surrogates out{.of = {},
                 .scored = trajectory.final_state(),
                 .alpha = lagrange ? options_.lagrange.alpha : options_.bridge.alpha};
  std::vector<std::pair<Leg, Leg>> legs;
  for (int64_t i = 0; i < input.x0.size(0); ++i) {
    const DrawnSurrogate drawn = draw_flowbp(options_, input.times, steps_stream(input, i));
    out.of.push_back(drawn.terms);
    if (drawn.legs) legs.push_back(*drawn.legs);
  }
  if (lagrange) {
    out.weight = gap_weights(trajectory, legs, options_.lagrange.tau);
    out.values["negative_start_weight"] = negative_starts(legs, input.whole);
  }
  return out;
}

// Without p, of a trajectory; a leg of one step has no second support.
double FlowBp::terms() const {
  switch (options_.kind) {
    case FlowBpKind::kSparse:
      return static_cast<double>(options_.sparse.k);
    case FlowBpKind::kBridge:
      return static_cast<double>(options_.bridge.k - 1);
    case FlowBpKind::kLagrange:
      break;
  }
  return options_.lagrange.order > 1 ? 3 : 1;
}

}  // namespace vggflow
