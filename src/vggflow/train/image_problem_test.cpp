// Every registered method on a tiny random image model: what the networks counted is what the
// method's formula says, gradients reach the adapters (and nothing else), and the velocity of a
// known rollout has the gradient of the policy.
#include "vggflow/train/image_problem.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>

#include "vggflow/algorithms/registry.h"
#include "vggflow/core/error.h"
#include "vggflow/families/nano/model.h"
#include "vggflow/families/nano/tiny_fixture_test.h"
#include "vggflow/flow/sampling.h"
#include "vggflow/ops/random_tensor.h"
#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

constexpr int64_t kBatch = 3, kSteps = 6;
const std::vector<std::string> kAttention{"transformer_blocks.*.attn.to_q",
                                          "transformer_blocks.*.attn.to_out.0"};
const std::vector<GuidedCall> kEverywhere = ImageProblemOptions{}.guidance_in;

struct TinyModel {
  TinyModel()
      : model(testing::tiny_options(), Vocabulary({"red heart ghost"}, 4)),
        lora(attach()),
        reward(make_reward("colorfulness", {})) {
    value = make_value_network({.kind = ValueKind::kSmall, .width = 32, .layers = 1}, model, {}, 1);
    for (const NamedTensor& p : value->trainable()) p.tensor->requires_grad_(true);
    model.count_passes(policy_passes);
    lora->count_passes(policy_passes);
    value->passes = value_passes;
    lora->merge();
  }
  // Random weights, and adapters whose B is not zero.
  std::unique_ptr<AdaptedFlow> attach() {
    uint64_t id = 0;
    const auto noise = [&](const Tensor& like) {
      return 0.2 * keyed_normal(3, Purpose::kTest, 0, id++, 1, like.sizes()).squeeze(0);
    };
    for (const NamedTensor& p : model.parameters()) *p.tensor = noise(*p.tensor);
    auto set = std::make_unique<AdaptedFlow>(model, LoraOptions{2, 2, kAttention}, 1);
    for (const NamedTensor& p : set->parameters())
      *p.tensor = noise(*p.tensor).requires_grad_(true);
    return set;
  }
  ImageProblem problem(const ImageProblemOptions& o, bool with_value) {
    return {
        {model, *lora, *reward, with_value ? value.get() : nullptr}, o, {"red", "heart", "ghost"}};
  }
  UpdateInput input() const {
    return {.seed = 5,
            .update = 2,
            .first_sample = 0,
            .x0 = keyed_normal(5, Purpose::kNoise, 2, 0, kBatch, {3, 16, 16}),
            .times = time_grid({.steps = kSteps}),
            .micro_batch = 4,
            .beta_scale = 1};
  }
  NanoModel model;
  std::unique_ptr<AdaptedFlow> lora;
  std::unique_ptr<Reward> reward;
  std::unique_ptr<ValueNetwork> value;
  std::shared_ptr<PassCounter> policy_passes = std::make_shared<PassCounter>(),
                               value_passes = std::make_shared<PassCounter>();
};

MethodOptions tiny_methods(const std::string& consistency) {
  MethodOptions o;
  for (const char* matched : {"vgg-flow", "vgg-flow-pmp", "fitted-adjoint"})
    o.set(matched, "bins=3");
  o.set("vgg-flow", "consistency.kind=" + consistency);
  o.set("refl", "k_min=3 k_max=5");
  o.set("ram", "group=3");
  o.set("draft", "k=2");
  return o;
}

class EveryMethod : public ::testing::TestWithParam<std::string> {};
std::string identifier(const ::testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Methods, EveryMethod, ::testing::ValuesIn(method_names()), identifier);

TEST_P(EveryMethod, RunsThePassesOfItsFormulaWhateverTheGuidance) {
  struct Case {
    std::vector<GuidedCall> in;
    bool detach;
    double guidance;
    const char* consistency;
  };
  for (const Case& each :
       {Case{kEverywhere, true, 3, "exact"}, Case{kEverywhere, false, 3, "paper"},
        Case{{GuidedCall::kRollout}, true, 3, "release"},
        Case{{GuidedCall::kRollout, GuidedCall::kGradient, GuidedCall::kBase}, true, 3, "exact"},
        Case{kEverywhere, true, 3, "step"}, Case{{GuidedCall::kBase}, true, 3, "step"},
        Case{kEverywhere, true, 3, "return consistency.every=1 consistency.warmup=0"},
        Case{{GuidedCall::kAdjoint}, false, 3, "return consistency.every=1 consistency.warmup=0"},
        Case{kEverywhere, true, 1, "off"}}) {
    TinyModel tiny;
    const auto method = make_method(GetParam(), tiny_methods(each.consistency));
    ImageProblem problem = tiny.problem(
        {.guidance = each.guidance, .guidance_in = each.in, .detach_unconditional = each.detach},
        method->trains_value());
    const MethodReport report = method->update(problem, tiny.input());
    EXPECT_EQ(report.dropped, 0);
    const Passes want = method->cost(problem.cost_shape(kBatch, kSteps), report);
    const std::string which = fmt::format("{} at guidance {}, consistency {}",
                                          method->cost_formula(problem.cost_shape(kBatch, kSteps)),
                                          each.guidance, each.consistency);
    EXPECT_EQ(tiny.policy_passes->forward, want.f) << which;
    EXPECT_EQ(tiny.policy_passes->tangent, want.j) << which;
    EXPECT_EQ(tiny.policy_passes->backward, want.b) << which;
    EXPECT_EQ(tiny.value_passes->forward, want.value_f) << which;
    EXPECT_EQ(tiny.value_passes->tangent, want.value_j) << which;
    EXPECT_EQ(tiny.value_passes->backward, want.value_b) << which;
    EXPECT_GT(tiny.policy_passes->backward, 0);
  }
}

TEST(VggFlowGuess, RunsThePassesOfItsFormulaWhateverTheGuessAndTheGuidance) {
  for (const char* guess : {"guess=endpoint", "guess=coarse nodes=3",
                            "guess=coarse nodes=6 force_last_step=true", "probe_every=2"}) {
    for (const auto& in :
         {kEverywhere, std::vector<GuidedCall>{GuidedCall::kRollout, GuidedCall::kGradient,
                                               GuidedCall::kBase}}) {
      for (const bool value : {false, true}) {
        TinyModel tiny;
        MethodOptions options = tiny_methods("exact");
        options.set("vgg-flow", guess);
        const auto method = make_method("vgg-flow", options);
        ImageProblem problem = tiny.problem({.guidance_in = in}, value);
        const MethodReport report = method->update(problem, tiny.input());
        const Passes want = method->cost(problem.cost_shape(kBatch, kSteps), report);
        const std::string which =
            fmt::format("{} {}", guess, method->cost_formula(problem.cost_shape(kBatch, kSteps)));
        EXPECT_EQ(tiny.policy_passes->forward, want.f) << which;
        EXPECT_EQ(tiny.policy_passes->tangent, want.j) << which;
        EXPECT_EQ(tiny.policy_passes->backward, want.b) << which;
        EXPECT_EQ(tiny.value_passes->forward, want.value_f) << which;
        EXPECT_EQ(tiny.value_passes->backward, want.value_b) << which;
        for (const NamedTensor& p : tiny.lora->parameters())
          EXPECT_GT(p.tensor->grad().abs().max().item<double>(), 0) << which << " " << p.name;
      }
    }
  }
}

// A value network that sees the guess is given it at every state that it is asked at.
TEST(VggFlowGuess, IsShownToTheValueNetwork) {
  for (const char* settings :
       {"consistency.kind=step", "consistency.kind=step guess=endpoint",
        "consistency.kind=return consistency.every=1 consistency.warmup=0",
        "consistency.kind=return consistency.every=1 consistency.warmup=0 guess=endpoint",
        "consistency.kind=return consistency.every=1 consistency.warmup=0 guess=coarse nodes=2"}) {
    TinyModel tiny;
    tiny.value = make_value_network({.kind = ValueKind::kSmall,
                                     .width = 32,
                                     .layers = 1,
                                     .inputs = ValueInputs::kGuess,
                                     .clock = ValueClock::kSlow},
                                    tiny.model, {}, 1);
    for (const NamedTensor& p : tiny.value->trainable()) p.tensor->requires_grad_(true);
    MethodOptions options = tiny_methods("exact");
    options.set("vgg-flow", settings);
    ImageProblem problem = tiny.problem({}, true);
    const MethodReport report = make_method("vgg-flow", options)->update(problem, tiny.input());
    EXPECT_EQ(report.dropped, 0);
    double largest = 0;
    for (const NamedTensor& p : tiny.value->trainable()) {
      if (p.tensor->grad().defined())
        largest = std::max(largest, p.tensor->grad().abs().max().item<double>());
    }
    EXPECT_GT(largest, 0) << settings;
  }
}

TEST_P(EveryMethod, MovesTheAdaptersAndLeavesTheBaseAlone) {
  TinyModel tiny;
  const auto method = make_method(GetParam(), tiny_methods("exact"));
  ImageProblem problem = tiny.problem({}, method->trains_value());
  const MethodReport report = method->update(problem, tiny.input());
  for (const NamedTensor& p : tiny.lora->parameters())
    EXPECT_GT(p.tensor->grad().abs().max().item<double>(), 0) << p.name;
  for (const NamedTensor& p : tiny.model.parameters())
    EXPECT_FALSE(p.tensor->grad().defined()) << p.name;
  EXPECT_EQ(report.rewards.size(0), kBatch);
  EXPECT_FALSE(report.loss.empty());
}

// The same samples in two calls give the gradient of one call: nothing depends on the batch where
// nothing is clipped by its quantile.
TEST_P(EveryMethod, GivesTheSameGradientWhateverTheMicroBatch) {
  const auto gradient = [&](int64_t micro_batch) {
    TinyModel tiny;
    auto options = tiny_methods("exact");
    const auto method = make_method(GetParam(), options);
    ImageProblem problem = tiny.problem({}, false);
    UpdateInput input = tiny.input();
    input.micro_batch = micro_batch;
    method->update(problem, input);
    return tiny.lora->parameters().front().tensor->grad().clone();
  };
  const Tensor whole = gradient(100), parts = gradient(2);
  EXPECT_LT((whole - parts).abs().max().item<double>(), 1e-4 * whole.abs().max().item<double>());
}

TEST(ImageProblem, AKnownVelocityHasThePolicysGradient) {
  TinyModel tiny;
  ImageProblem problem = tiny.problem({}, false);
  const States s{keyed_normal(1, Purpose::kTest, 0, 0, kBatch, {3, 16, 16}),
                 at::tensor({0.2f, 0.5f, 0.8f}), at::arange(kBatch)};
  const Tensor cotangent = keyed_normal(2, Purpose::kTest, 0, 0, kBatch, {3, 16, 16});
  const Tensor policy = problem.policy(s), known = problem.policy_known(s, policy.detach());
  EXPECT_TRUE(at::equal(known.detach(), policy.detach()));
  for (const NamedTensor& p : tiny.lora->parameters()) {
    const Tensor want =
        torch::autograd::grad({policy}, {*p.tensor}, {cotangent}, /*retain_graph=*/true)[0];
    const Tensor got =
        torch::autograd::grad({known}, {*p.tensor}, {cotangent}, /*retain_graph=*/true)[0];
    EXPECT_LT((got - want).abs().max().item<double>(), 1e-4 * want.abs().max().item<double>())
        << p.name;
  }
}

TEST(ImageProblem, AWeightedSumsPartsAddUpToIt) {
  TinyModel tiny;
  tiny.reward = make_reward("0.5*colorfulness + 2*colorfulness", {});
  ImageProblem problem = tiny.problem({}, false);
  const Tensor x = keyed_normal(1, Purpose::kTest, 0, 0, kBatch, {3, 16, 16}),
               rows = at::arange(kBatch);
  const Tensor parts = problem.reward_parts(x, rows);
  EXPECT_THAT(problem.reward_weights(), ::testing::ElementsAre(0.5, 2.0));
  EXPECT_TRUE(at::allclose(0.5 * parts[0] + 2 * parts[1], problem.reward(x, rows)));
}

TEST(GuidanceIn, ActsWhereTheSettingListsIt) {
  const GuidanceIn in({GuidedCall::kRollout, GuidedCall::kBase});
  EXPECT_TRUE(in.rollout && in.base);
  EXPECT_FALSE(in.gradient || in.adjoint);
  EXPECT_FALSE(GuidanceIn({}).rollout);
}

// What docs/methods.md states: guided, with the unconditional branch detached, three forwards and
// one backward a transition without a value network; with one, seven forwards, three tangents and
// five backwards.
TEST(ImageProblem, VggFlowCostsWhatTheDocumentationSays) {
  TinyModel tiny;
  const auto method = make_method("vgg-flow", tiny_methods("exact"));
  EXPECT_EQ(method->cost_formula(tiny.problem({}, true).cost_shape(kBatch, kSteps)),
            "B N 2F + 3 B (7F + 3J + 5B) + B (1F + 1B)");
  EXPECT_EQ(method->cost_formula(tiny.problem({}, false).cost_shape(kBatch, kSteps)),
            "B N 2F + 3 B (3F + 1B)");
  MethodOptions options = tiny_methods("exact");
  options.set("vgg-flow", "guess=coarse nodes=3");
  EXPECT_EQ(make_method("vgg-flow", options)
                ->cost_formula(tiny.problem({}, false).cost_shape(kBatch, kSteps)),
            "B N 2F + 3 B (2F + 2B) + 3 B (2F + 1B)");
}

}  // namespace
}  // namespace vggflow
