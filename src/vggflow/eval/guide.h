#pragma once
// Value-gradient guidance at sampling time: the base model is followed along v = v_base - beta g
// without any fine-tuning (docs/guidance.md).
//
//   g(x, t) = -eta(t) c grad r(x1_hat) + nu(x, t),   x1_hat = x + (1 - t) sg(v_base),   c = min(1,
//   clip_norm / |grad r|)
//
// one_step takes nu = 0, value the network that an alignment by vgg-flow wrote
// (value.safetensors of its run).

#include <memory>
#include <string>
#include <vector>

#include "vggflow/core/field.h"
#include "vggflow/families/value_network.h"
#include "vggflow/flow/eta.h"
#include "vggflow/flow/flow_model.h"
#include "vggflow/rewards/pixels.h"
#include "vggflow/rewards/reward.h"

namespace vggflow {

/// Where nu comes from, if the base is guided at all.
enum class GuideKind { kNone, kOneStep, kValue };
inline OptionWords<GuideKind> option_words(GuideKind) {
  return {
      {"none", GuideKind::kNone}, {"one_step", GuideKind::kOneStep}, {"value", GuideKind::kValue}};
}

struct GuideOptions {
  GuideKind kind = GuideKind::kNone;
  double beta = 3.0;
  EtaSchedule eta = {};
  double clip_norm = 0;
  std::string reward = "colorfulness";
  RewardFiles reward_files = {};
  PixelClamp clamp = PixelClamp::kHard;
  std::string value = {};

  template <class V>
  void fields(V& v) {
    v("kind", kind,
      "value-gradient guidance of the base model: none, the one-step guess, or a learned value "
      "network");
    v("beta", beta, "beta = 1/lambda: strength of the reward", range(0, 1e12));
    eta.fields(v);
    v("clip_norm", clip_norm, "clipping of each sample's reward gradient norm; 0: no clipping",
      range(0, 1e12));
    v("reward", reward, "reward, or a weighted sum");
    reward_files.fields(v);
    v("clamp", clamp, "how pixels are clamped to [0, 1] before the reward");
    v("value", value, "file of the value network (kind value): value.safetensors of a run");
  }
};

class ValueGuide {
 public:
  ValueGuide(const GuideOptions& options, FlowModel& model);
  /// -beta g at x (B, C, S, S), t (B) where the base has the velocity v.
  Tensor push(const Tensor& x, const Tensor& t, const Tensor& v,
              const std::vector<std::string>& prompts, const Conditioning& conditioning) const;

 private:
  GuideOptions options_;
  const FlowModel& model_;
  std::unique_ptr<Reward> reward_;
  LoadedValueNetwork value_;
};

}  // namespace vggflow
