// g on the nano that ships: the lean adjoint is near what a coarse adjoint says and far from what
// the one-step guess does (docs/coarse-adjoint.md; `vggflow check --value-gradient` measures it).
#include "vggflow/proofs/value_gradient.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "vggflow/data/prompt_source.h"
#include "vggflow/families/open_model.h"
#include "vggflow/flow/sampling.h"
#include "vggflow/ops/random_tensor.h"
#include "vggflow/train/image_problem.h"

namespace vggflow {
namespace {

std::map<std::string, ValueGradientRow> rows_at(double guidance, const std::string& reward_name) {
  constexpr int64_t kPrompts = 6, kSteps = 20;
  const auto model = open_flow_model({});
  AdaptedFlow adapters(*model, LoraOptions{1, 1, {"transformer_blocks.*.attn.to_q"}}, 0);
  adapters.merge();
  const auto reward = make_reward(reward_name, RewardFiles{}.resources());
  ImageProblem problem({*model, adapters, *reward, nullptr}, {.guidance = guidance},
                       captions_of(make_prompt_source(PromptFiles{}, EmojiOptions{})
                                       ->evaluation(Split::kHeldOut, 0, kPrompts)));
  const UpdateInput input{
      .seed = 0,
      .update = 0,
      .first_sample = 0,
      .x0 = keyed_normal(0, Purpose::kNoise, 0, 0, kPrompts, model->state_shape()),
      .times = time_grid({.steps = kSteps})};
  std::map<std::string, ValueGradientRow> out;
  for (const ValueGradientRow& row :
       measure_value_gradient(problem, input, problem.cost_shape(1, kSteps), 0.5))
    out[row.name] = row;
  return out;
}

TEST(ValueGradient, OfNanoIsWhatCoarseAdjointsSayAndNotTheGuess) {
  for (const double guidance : {3.0, 5.0}) {
    const auto rows = rows_at(guidance, guidance == 3 ? "colorfulness" : "emoji-clip");
    const ValueGradientRow &lean = rows.at("PMP, lean"), &guess = rows.at("one-step guess, t^2");
    EXPECT_NEAR(lean.cosine.mean, 1, 1e-9);
    EXPECT_NEAR(lean.gain.mean, 1, 1e-9);
    EXPECT_NEAR(lean.ratio, 1, 1e-9);
    EXPECT_EQ(lean.passes, 140);
    EXPECT_EQ(guess.passes, 60);
    EXPECT_LT(guess.cosine.mean, 0.55);
    EXPECT_LT(rows.at("end point, t^2").cosine.mean, 0.6);
    EXPECT_EQ(rows.at("coarse 3").pulls, 3);
    EXPECT_GT(rows.at("coarse 3").cosine.mean, guidance == 3 ? 0.82 : 0.72);
    EXPECT_GT(rows.at("coarse 5").cosine.mean, guidance == 3 ? 0.92 : 0.86);
    EXPECT_GT(rows.at("coarse 8").cosine.mean, 0.93);
    EXPECT_GT(rows.at("coarse 8").gain.mean, guess.gain.mean + 0.2);
  }
}

}  // namespace
}  // namespace vggflow
