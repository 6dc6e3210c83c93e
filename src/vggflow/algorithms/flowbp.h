#pragma once
// FlowBP (arXiv 2606.11075): what stands for the rollout when the reward's gradient at its end is
// handed back (surrogate.h). One draw a trajectory; the end that the rollout reached is scored, G =
// -(w / B) f'(r) grad r(x_N).
//
//   sparse    k steps A, drawn without replacement with weights (i + 1)^late_bias:
//             c_i = g h_i for i in A,   g = 1 + rescale (sum_all h / sum_A h - 1),   w = 1
//   bridge    j, the later of two uniform steps, cuts the rollout; round(k j / N) of the k steps
//             are drawn before it, the others after it, and j with them, late-biased within their
//             part. c_i = g h_i; j hands on p, which the steps before it see alpha times; w = 1
//   lagrange  legs k -> j and j -> end, on each the velocity is the polynomial through up to
//             `order` of its steps, spread evenly from its start: x_target_hat = x_start + sum W_i
//             v_i, W_i the integral of the i-th Lagrange polynomial over the leg. The legs' starts
//             have c = W, their second supports second_scale W; j hands on p to the first leg;
//             w = 1 / (max(d_j, tau) + max(d_0, tau)), d the legs' mean absolute errors.
//             Steps after j, between, and before k: round(N p), p ~ Dirichlet(lengths), at least
//             1, at most most_after after j
//
// W of a leg's start can be negative: the polynomial leaves the last support far behind. That step
// is then pushed the wrong way; `negative_start_weight` counts how often. With order 1 lagrange is
// LeapAlign.

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "vggflow/algorithms/surrogate.h"

namespace vggflow {

/// The kinds above.
enum class FlowBpKind { kSparse, kBridge, kLagrange };
inline OptionWords<FlowBpKind> option_words(FlowBpKind) {
  return {{"sparse", FlowBpKind::kSparse},
          {"bridge", FlowBpKind::kBridge},
          {"lagrange", FlowBpKind::kLagrange}};
}

struct SparseOptions {
  int64_t k = 4;
  double late_bias = 1;
  double rescale = 0.5;

  template <class V>
  void fields(V& v) {
    v("k", k, "trained steps per trajectory", range(1, 1000));
    v("late_bias", late_bias, "exponent of a step's position in its sampling weight",
      range(0, 100));
    v("rescale", rescale, "0: step lengths as weights; 1: weights scaled to sum to 1", range(0, 1));
  }
};

struct BridgeOptions {
  int64_t k = 5;
  double late_bias = 4;
  double rescale = 0;
  double alpha = 0.5;

  template <class V>
  void fields(V& v) {
    v("k", k, "trained steps per trajectory", range(2, 1000));
    v("late_bias", late_bias,
      "exponent of a step's position within its part in its sampling weight", range(0, 100));
    v("rescale", rescale, "0: step lengths as weights; 1: weights scaled to sum to 1", range(0, 1));
    v("alpha", alpha, "scale of the gradient through the network's input at the cut", range(0, 1));
  }
};

struct LagrangeOptions {
  int64_t order = 3;
  double second_scale = 0.25;
  double alpha = 0.1;
  double tau = 0.2;
  double rescale = 0;
  std::vector<double> lengths{2.5, 6, 2};
  int64_t most_after = 10;

  template <class V>
  void fields(V& v) {
    v("order", order, "supports per leg", range(1, 5));
    v("second_scale", second_scale, "scale of the gradient at a leg's second support", range(0, 1));
    v("alpha", alpha, "scale of the gradient through the network's input where the legs meet",
      range(0, 1));
    v("tau", tau,
      "mean absolute error of a leg below which it counts as exact; a trajectory's weight falls "
      "with its legs' errors",
      range(1e-6, 1e6));
    v("rescale", rescale,
      "0: unchanged weights; 1: the weights of a leg's trained steps scaled to the sum of all",
      range(0, 1));
    v("lengths", lengths,
      "parameters of the Dirichlet distribution of the part lengths: steps after the legs meet, "
      "between, before");
    v("most_after", most_after, "maximum steps after the legs meet", range(1, 1000));
  }
};

struct FlowBpOptions {
  FlowBpKind kind = FlowBpKind::kLagrange;
  SparseOptions sparse;
  BridgeOptions bridge;
  LagrangeOptions lagrange;
  RewardTransformOptions transform;

  template <class V>
  void fields(V& v) {
    v("kind", kind, "surrogate of the rollout for the backward pass");
    v.section("sparse", sparse);
    v.section("bridge", bridge);
    v.section("lagrange", lagrange);
    v.section("transform", transform);
  }

  static MethodTrials trials();
};

class FlowBp : public Ascent {
 public:
  FlowBp(const FlowBpOptions& options, const RewardClipOptions& clip)
      : Ascent("flowbp", options.transform, clip), options_(options) {}
  void check(int64_t steps) const override;

 protected:
  Surrogates draw(const Trajectory& trajectory, const UpdateInput& input) const override;
  double terms() const override;
  bool has_joint() const override { return options_.kind != FlowBpKind::kSparse; }

 private:
  FlowBpOptions options_;
};

/// `count` of the steps first ... first + length - 1, increasing, drawn without replacement with
/// weights (place + 1)^bias.
std::vector<int64_t> draw_late(int64_t first, int64_t length, int64_t count, double bias,
                               RandomStream& random);

/// The terms of sparse at the steps `active`.
Surrogate sparse_surrogate(const std::vector<double>& times, const std::vector<int64_t>& active,
                           double rescale);
/// Of bridge, cut at j, one of `active`.
Surrogate bridge_surrogate(const std::vector<double>& times, const std::vector<int64_t>& active,
                           int64_t j, double rescale);

/// A leg with its supports, `order` at most, and their weights.
Leg lagrange_leg(const std::vector<double>& times, int64_t start, int64_t target, int64_t order);
/// The terms of lagrange on legs that meet.
Surrogate lagrange_surrogate(const std::pair<Leg, Leg>& legs, const LagrangeOptions& options);
/// k and j of lagrange.
std::pair<int64_t, int64_t> draw_legs(const LagrangeOptions& options, int64_t steps,
                                      RandomStream& random);

/// One trajectory's terms, and the legs of lagrange.
struct DrawnSurrogate {
  Surrogate terms;
  std::optional<std::pair<Leg, Leg>> legs;
};
DrawnSurrogate draw_flowbp(const FlowBpOptions& options, const std::vector<double>& times,
                           RandomStream random);

}  // namespace vggflow
