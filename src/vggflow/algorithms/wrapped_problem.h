#pragma once
// A problem around another, of which something is counted or watched.

#include <vector>

#include "vggflow/algorithms/problem.h"

namespace vggflow {

/// Rewards and correction are the other problem's; whoever derives from this says what becomes of
/// the velocities.
class WrappedProblem : public AlignmentProblem {
 public:
  explicit WrappedProblem(AlignmentProblem& problem) : problem_(problem) {}
  Tensor reward(const Tensor& x1, const Tensor& rows) override { return problem_.reward(x1, rows); }
  Dual reward_tangent(const Dual& x1, const Tensor& rows) override {
    return problem_.reward_tangent(x1, rows);
  }
  Tensor reward_parts(const Tensor& x1, const Tensor& rows) override {
    return problem_.reward_parts(x1, rows);
  }
  Dual reward_parts_tangent(const Dual& x1, const Tensor& rows) override {
    return problem_.reward_parts_tangent(x1, rows);
  }
  std::vector<double> reward_weights() const override { return problem_.reward_weights(); }
  bool has_correction() const override { return problem_.has_correction(); }
  bool correction_sees_guess() const override { return problem_.correction_sees_guess(); }
  Tensor correction(const States& s) override { return problem_.correction(s); }
  Dual correction_tangent(const Dual& x, const Dual& t, const Tensor& rows) override {
    return problem_.correction_tangent(x, t, rows);
  }

 protected:
  AlignmentProblem& problem_;
};

}  // namespace vggflow
