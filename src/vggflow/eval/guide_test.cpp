// Value-gradient guidance: the push is beta eta times the reward's gradient at the one-step guess,
// bounded where that is asked, and it takes the learned correction of a file.
#include "vggflow/eval/guide.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vggflow/core/error.h"
#include "vggflow/families/nano/model.h"
#include "vggflow/flow/sampling.h"
#include "vggflow/ops/random_tensor.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

const std::vector<std::string> kPrompts{"a", "b"};

MmditOptions shape() {
  return {.sample_size = 8,
          .patch_size = 4,
          .layers = 1,
          .heads = 2,
          .head_dim = 8,
          .context_dim = 8,
          .pooled_dim = 8,
          .pos_embed_max = 2};
}

NanoModel tiny() {
  return {NanoOptions{.text_width = 8, .network = shape()}, Vocabulary({"a", "b"}, 3)};
}

struct Point {
  Tensor x = 0.3 * keyed_normal(1, Purpose::kTest, 0, 0, 2, {3, 8, 8}),
         v = 0.3 * keyed_normal(2, Purpose::kTest, 0, 0, 2, {3, 8, 8});
  Tensor t = at::tensor({0.5f, 0.9f});
  Conditioning c{keyed_normal(3, Purpose::kTest, 0, 0, 2, {3, 8}),
                 keyed_normal(4, Purpose::kTest, 0, 0, 2, {8})};
};

TEST(ValueGuide, PushesAlongTheRewardsGradientAtTheOneStepGuess) {
  NanoModel model = tiny();
  const Point p;
  const ValueGuide guide(
      {.kind = GuideKind::kOneStep, .beta = 2, .eta = Eta::kLinear, .reward = "colorfulness"},
      model);
  const Tensor push = guide.push(p.x, p.t, p.v, kPrompts, p.c);
  const auto reward = make_reward("colorfulness", {});
  const Tensor direction = keyed_normal(5, Purpose::kTest, 0, 0, 2, {3, 8, 8}),
               x1 = one_step_guess(p.x, p.t, p.v);
  const auto score = [&](double s) {
    return reward->score(((x1 + s * direction + 1) / 2).clamp(0, 1), kPrompts);
  };
  const Tensor slope = (score(1e-3) - score(-1e-3)) / 2e-3;
  EXPECT_TRUE(at::allclose((push * direction).flatten(1).sum(1), 2 * p.t * slope, 2e-2, 1e-2))
      << (push * direction).flatten(1).sum(1) << 2 * p.t * slope;
}

TEST(ValueGuide, BoundsEachSamplesGradientByTheFixedNorm) {
  NanoModel model = tiny();
  const Point p;
  const ValueGuide guide({.kind = GuideKind::kOneStep,
                          .beta = 2,
                          .eta = Eta::kConstant,
                          .clip_norm = 0.25,
                          .reward = "colorfulness"},
                         model);
  const Tensor norm =
      at::linalg_vector_norm(guide.push(p.x, p.t, p.v, kPrompts, p.c).flatten(1), 2, {1});
  EXPECT_TRUE(at::allclose(norm, at::full({2}, 0.5f)));
}

TEST(ValueGuide, RefusesARewardWithoutGradient) {
  NanoModel model = tiny();
  EXPECT_THAT(testing::message_of([&] {
                ValueGuide({.kind = GuideKind::kOneStep, .reward = "http://127.0.0.1:1/"}, model);
              }),
              ::testing::HasSubstr("[reward] http://127.0.0.1:1/ has no gradient"));
}

TEST(ValueGuide, TakesTheCorrectionOfAFile) {
  NanoModel model = tiny();
  const ValueOptions options{.kind = ValueKind::kSmall, .width = 32, .layers = 1};
  const auto network = make_value_network(options, model, {}, 1);
  {
    at::NoGradGuard no_grad;
    uint64_t id = 20;
    for (const NamedTensor& q : network->trainable())
      *q.tensor = 0.1 * keyed_normal(6, Purpose::kTest, 0, id++, 1, q.tensor->sizes()).squeeze(0);
  }
  const testing::TemporaryFolder folder;
  const auto file = folder / "value.safetensors";
  save_value_network(file, *network, options, {}, 0.5);
  const Point p;
  GuideOptions o{
      .kind = GuideKind::kOneStep, .beta = 2, .eta = Eta::kConstant, .reward = "colorfulness"};
  const Tensor without = ValueGuide(o, model).push(p.x, p.t, p.v, kPrompts, p.c);
  o.kind = GuideKind::kValue;
  o.value = file.string();
  const Tensor with = ValueGuide(o, model).push(p.x, p.t, p.v, kPrompts, p.c);
  const Tensor nu = network->evaluate(p.x, p.t, p.c);
  EXPECT_GT(nu.abs().max().item<double>(), 1e-3);
  EXPECT_TRUE(at::allclose(with - without, -2 * 0.5 * nu, 1e-4, 1e-5));
}

TEST(ValueGuide, RefusesAValueGuideWithoutAFile) {
  NanoModel model = tiny();
  EXPECT_THAT(
      testing::message_of(
          [&] { ValueGuide({.kind = GuideKind::kValue, .reward = "colorfulness"}, model); }),
      ::testing::HasSubstr("expected guide.value, the value.safetensors of a run of vgg-flow"));
}

}  // namespace
}  // namespace vggflow
