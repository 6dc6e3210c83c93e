#pragma once
// What weighs the reward against the base while a run goes on: beta (Adjoint Matching's lambda) as
// the settings have it, times a scale that starts at 1 and is never above it.
//
// A budget of control energy (after TRQAM, arXiv 2605.27079): the multiplier 1/beta of the energy E
// = mean |v_theta - v_base|^2 over the elements of the trained states takes a projected dual step
// after every update,
//
//   scale <- min(cap, scale exp(-rate clamp(log(E / budget), -1, 1))).
//
// The monitor's warnings lower the cap for good (monitor.action=lower_beta).

#include "vggflow/core/field.h"
#include "vggflow/train/checkpoint.h"

namespace vggflow {

struct BetaOptions {
  double budget = 0;
  double rate = 0.1;

  template <class V>
  void fields(V& v) {
    v("budget", budget,
      "budget of control energy, the mean of (v_theta - v_base)^2 at the trained states, which "
      "beta is lowered to keep; costs one forward pass of the base per state; 0: beta is fixed",
      range(0, 1e12));
    v("rate", rate, "largest change of log(beta) per update", range(0, 10));
  }
};

/// What follows a warning of the monitor besides its text.
enum class MonitorAction { kWarn, kStop, kLowerBeta };
inline OptionWords<MonitorAction> option_words(MonitorAction) {
  return {{"warn", MonitorAction::kWarn},
          {"stop", MonitorAction::kStop},
          {"lower_beta", MonitorAction::kLowerBeta}};
}

struct MonitorOptions {
  MonitorAction action = MonitorAction::kWarn;
  double factor = 0.5;

  template <class V>
  void fields(V& v) {
    v("action", action,
      "action on a reward-hacking warning: warn only, stop the run after that evaluation, or "
      "multiply beta by monitor.factor");
    v("factor", factor, "factor on beta for lower_beta", range(0, 1));
  }
};

class BetaSteering {
 public:
  explicit BetaSteering(const BetaOptions& options) : options_(options) {}
  double scale() const { return scale_; }
  /// After an update whose trained states had this control energy.
  void weigh(double energy);
  /// Lowers what beta may be, and so beta.
  void lower(double factor);
  void save(Checkpoint& checkpoint) const;
  void load(const Checkpoint& checkpoint);

 private:
  BetaOptions options_;
  double scale_ = 1, cap_ = 1;
};

}  // namespace vggflow
