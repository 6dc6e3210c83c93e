#pragma once
// The alignment problem of one update's batch: prompts bound to rows, adapters switched per call, pixels made for the reward.

#include <memory>
#include <string>
#include <vector>

#include "vggflow/algorithms/problem.h"
#include "vggflow/models/nano.h"
#include "vggflow/models/value_network.h"
#include "vggflow/nn/lora.h"
#include "vggflow/rewards/reward.h"

namespace vggflow {

/// The networks of an alignment run; the base weights are frozen and held once.
struct AlignmentModels {
  NanoModel& model;
  LoraSet& lora;
  const Reward& reward;
  ValueNetwork* value;  ///< null: no correction
};

struct ImageProblemOptions {
  double guidance = 3.0;
  bool detach_unconditional = true;
  std::string clamp = "hard";
  double value_scale = 1.0;  ///< nu = value_scale * network
};

class ImageProblem : public AlignmentProblem {
 public:
  ImageProblem(const AlignmentModels& models, const ImageProblemOptions& options, std::vector<std::string> prompts);

  Tensor policy(const States& s) override;
  Dual policy_tangent(const Dual& x, const Dual& t, const Tensor& rows) override;
  Tensor base(const States& s) override;
  Tensor reward(const Tensor& x1, const Tensor& rows) override;
  Dual reward_tangent(const Dual& x1, const Tensor& rows) override;
  bool has_correction() const override { return models_.value != nullptr; }
  Tensor correction(const States& s) override;
  Dual correction_tangent(const Dual& x, const Dual& t, const Tensor& rows) override;

  /// v_theta with merged adapters for all rows, both guidance branches in one batch: what rollouts call.
  Tensor rollout_velocity(const Tensor& x, const Tensor& t);

 private:
  std::vector<std::string> prompts_of(const Tensor& rows) const;
  Conditioning conditioning_of(const Tensor& rows) const;
  AlignmentModels models_;
  ImageProblemOptions options_;
  std::vector<std::string> prompts_;
  Conditioning conditioning_;
  GuidedVelocity velocity_;
};

}  // namespace vggflow
