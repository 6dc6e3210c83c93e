#pragma once
// A method of alignment: what one update does with a problem. Methods are registered in
// registry.cpp, one line each.

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "vggflow/algorithms/problem.h"
#include "vggflow/algorithms/whole_batch.h"
#include "vggflow/core/field.h"
#include "vggflow/core/random.h"

namespace vggflow {

/// What one update is given: its share of the batch. Everything random is keyed by (seed, update,
/// first_sample + row).
struct UpdateInput {
  uint64_t seed = 0, update = 0, first_sample = 0;
  Tensor x0;                  ///< (B, ...) noise, fp32 (closed-form problems: fp64)
  std::vector<double> times;  ///< the rollout's grid, 0 ... 1
  int64_t micro_batch = 80;   ///< transitions in one forward and backward pass
  double beta_scale = 1;      ///< warm-up of beta (or of Adjoint Matching's lambda)
  /// Takes a step of phi's optimizer along the gradient accumulated so far, and clears it, where a
  /// method trains phi in several steps; the last one is left to the caller. Empty: the gradients
  /// add up. All shares call it equally often.
  std::function<void()> step_value = {};
  bool losses_of_g = false;  ///< nu's losses in units of g, not of beta g, as in older runs
  double reward_spread = 1;  ///< the base's standard deviation of the reward within a prompt
  WholeBatch whole = {};     ///< the batch of which these samples are a share
};

/// What lambda of a target p_base exp(lambda r) multiplies.
enum class LambdaUnit {
  kSpread,  ///< r in standard deviations of the base's rewards within a prompt: a normal r moves by
            ///< lambda of them
  kReward   ///< r itself, as published
};
inline OptionWords<LambdaUnit> option_words(LambdaUnit) {
  return {{"spread", LambdaUnit::kSpread}, {"reward", LambdaUnit::kReward}};
}

/// lambda of r itself in this update.
inline double lambda_of(double lambda, LambdaUnit unit, const UpdateInput& input) {
  return lambda * input.beta_scale / (unit == LambdaUnit::kSpread ? input.reward_spread : 1);
}

/// Random numbers of one draw for the whole update; no sample of a batch has its key.
inline RandomStream whole_update(const UpdateInput& input) {
  return RandomStream({input.seed, Purpose::kTime, input.update, 0xFFFFFFFF});
}

/// Random numbers for what is drawn of the steps of one of input's samples, keyed by (seed, kTime,
/// update, sample).
inline RandomStream steps_stream(const UpdateInput& input, int64_t sample) {
  return RandomStream({input.seed, Purpose::kTime, input.update,
                       input.first_sample + static_cast<uint64_t>(sample)});
}

/// Passes of one update through the flow model and the value network, each over one sample and one
/// guidance branch: f forward, j the tangents that a forward-mode pass carries besides (about one
/// forward each), b backward (two for a pair of value and tangent).
struct Passes {
  double f = 0, j = 0, b = 0;
  double value_f = 0, value_j = 0, value_b = 0;
};

/// What a cost formula depends on: trajectories, their steps, and how many guidance branches each
/// kind of call runs.
struct CostShape {
  double batch = 1, steps = 1;
  double rollout = 2;       ///< branches of a rollout step
  double policy = 2;        ///< forwards of a policy call that carries a graph
  double policy_graph = 1;  ///< of these, branches with a graph
  double known = 1;         ///< forwards where the policy's value is known
  double known_graph = 1;   ///< of these, branches with a graph
  double tangent = 2;       ///< branches of the policy's forward-mode pass
  double base = 2, adjoint = 2;
  double reference = 2;  ///< forwards for the v_base that a transition is matched against: a call
                         ///< of the base, or what carrying the difference adds to a rollout step
  bool adjoint_is_base = true, value = false;
  bool paired = false;  ///< AlignmentProblem::has_difference
};

/// One moment of an update that keeps graphs besides the rollout: how many of each kind one of its
/// `rows` samples has at once. Rows run in micro-batches, and the backward pass starts in the value
/// network where that has a graph, else in the base. Moments of one name are one phase, whose
/// fullest counts.
struct Moment {
  std::string name;
  double rows = 0;
  double value_graphs = 0;   ///< of the value network
  double value_pairs = 0;    ///< of the value network in forward mode
  double base_graphs = 0;    ///< of the base, down to its input, by branch
  double policy_graphs = 0;  ///< of the policy, down to its input, by branch
  double reward_graphs = 0;  ///< of decoder and reward
  double forwards = 0;       ///< branches of the policy without a graph
  double tangents = 0;       ///< branches of the policy's forward-mode pass without a graph
};

/// What an update asks of memory and of the reward; its passes through networks are in Passes.
struct Demand {
  double transitions = 0;  ///< trained on
  double reward_gradients = 0, hessian_products = 0;
  bool adjoint = false;              ///< cotangents are pulled back through the base
  bool policy_input = false;         ///< the policy's graph reaches to its input
  std::vector<Moment> moments = {};  ///< of the value network's losses
};

/// Settings that proofs and tests try a method with: overrides of its section, between spaces.
struct MethodTrial {
  std::string label, settings;
  double rounding = 1;  ///< how much more than others its differences magnify rounding
};
struct MethodTrials {
  std::string small = {};  ///< lets six steps do, and makes the update a mean over its samples
  std::vector<MethodTrial> variants = {};  ///< that count or split otherwise than the defaults
};

/// What an update found, of the whole batch but for the times. Losses are means over elements or
/// samples, as the method's head says.
struct MethodReport {
  std::map<std::string, double> loss;    ///< by name
  std::map<std::string, double> values;  ///< telemetry: control energy, clip threshold, ...
  std::map<std::string, std::vector<double>>
      series;                             ///< telemetry by step of the grid: adjoint norms, ...
  std::map<std::string, double> seconds;  ///< of this share, by phase
  Tensor rewards;                         ///< (B) of the rollouts' end points, of the whole batch
  int64_t dropped = 0;  ///< transitions or trajectories whose reward or gradient was not finite
  bool trains_policy = true, trains_value = true;  ///< else that network is to take no step
};

class Method {
 public:
  virtual ~Method() = default;
  /// Rolls out, computes the losses and accumulates the gradients of theta (and phi): of the mean
  /// over the whole batch, this share's part. Takes no optimizer step. Throws where no sample of
  /// the whole batch is finite.
  virtual MethodReport update(AlignmentProblem& problem, const UpdateInput& input) const = 0;
  /// Throws where a rollout of so many steps does not fit the settings. update() asks again.
  virtual void check([[maybe_unused]] int64_t steps) const {}
  /// Passes of the update that gave `report`, if nothing was dropped; ImageProblem counts the real
  /// ones.
  virtual Passes cost(const CostShape& shape, const MethodReport& report) const = 0;
  /// The same, on average over updates.
  virtual Passes mean_cost(const CostShape& shape) const { return cost(shape, {}); }
  /// What an update of that shape asks for besides.
  virtual Demand demand(const CostShape& shape) const = 0;
  /// States of an update at which v_theta is trained, on average over updates.
  virtual double trained_states(const CostShape& shape) const { return demand(shape).transitions; }
  /// The cost for a person: "B N r + M (1 + 2)", in the letters that docs/methods.md explains.
  virtual std::string cost_formula(const CostShape& shape) const = 0;
  /// Whether the method trains the value network; the others refuse one.
  virtual bool trains_value() const { return false; }
  /// Whether nu may be a function of the guess of g (States::end), as losses that differentiate nu
  /// do not allow.
  virtual bool shows_guess() const { return false; }
  /// Whether its fixed point minimises the control's energy less the reward (vgg_flow.h, Eq. 6);
  /// the others raise the reward.
  virtual bool minimises_objective() const { return false; }
  /// Whether UpdateInput::beta_scale acts on it: a multiplier weighs the reward against the base.
  virtual bool scales_with_beta() const { return minimises_objective(); }
  /// Whether UpdateInput::reward_spread acts on it.
  virtual bool asks_spread() const { return false; }
  /// Whether guidance acts in its rollouts alone unless the settings say otherwise: its target is a
  /// law that is tilted, which guided velocities do not have, and adjoints of guided ones blow up.
  virtual bool guides_rollouts_alone() const { return false; }
  /// Whether the reward must have a gradient.
  virtual bool needs_reward_gradient() const { return true; }
  /// Samples of one prompt, which follow one another; they divide the batch.
  virtual int64_t group() const { return 1; }
  /// Rollouts follow an average of the trained policy, with decay min(lag, 0.01 n) after n updates;
  /// none: the trained policy itself.
  virtual std::optional<double> lag() const { return std::nullopt; }
  /// 1/lambda of the regression target, 1 for methods that have none: the value network emits beta
  /// nu.
  virtual double beta() const { return 1; }
};

}  // namespace vggflow
