// The methods of 2023 to 2026 raise the reward on nano, the model that ships: a few updates on the
// same prompts and noise.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "vggflow/algorithms/registry.h"
#include "vggflow/families/open_model.h"
#include "vggflow/flow/sampling.h"
#include "vggflow/ops/random_tensor.h"
#include "vggflow/train/image_problem.h"
#include "vggflow/train/optimizer.h"

namespace vggflow {
namespace {

struct Arm {
  std::string name, method, settings;
  int updates = 4;
  std::vector<std::string> prompts{"red heart", "cat"};
};
const std::vector<Arm> kArms{
    {"rsm", "vgg-flow", "guess=endpoint eta=linear beta=5 bins=4"},
    {"rsm_gaussian", "vgg-flow", "guess=endpoint eta=gaussian beta=5 bins=4"},
    {"damped", "vgg-flow", "eta=damped beta=5 bins=4"},
    {"pmp_last_2_frozen", "vgg-flow-pmp", "steps=2 beta=5 bins=4"},
    {"pmp_last_2_anchored", "vgg-flow-pmp", "steps=2 early=anchor beta=5 bins=4"},
    {"pmp_last_2_alone", "vgg-flow-pmp", "steps=2 early=none beta=5 bins=2"},
    {"drtune", "drtune", ""},
    {"leapalign", "leapalign", ""},
    {"flowbp_sparse", "flowbp", "kind=sparse"},
    {"flowbp_bridge", "flowbp", "kind=bridge"},
    {"flowbp_lagrange", "flowbp", "kind=lagrange"},
    {"eam", "eam", "lambda=5", 6, {"red heart", "cat", "blue star", "dog"}},
    {"ram",
     "ram",
     "group=4 draws=4 strength=3",
     6,
     {"cat", "cat", "cat", "cat", "dog", "dog", "dog", "dog"}}};

class NanoWith : public ::testing::TestWithParam<Arm> {};
INSTANTIATE_TEST_SUITE_P(Arms, NanoWith, ::testing::ValuesIn(kArms),
                         [](const auto& arm) { return arm.param.name; });

TEST_P(NanoWith, TheRewardRisesInAFewUpdates) {
  MethodOptions options;
  options.set(GetParam().method, GetParam().settings);
  const auto method = make_method(GetParam().method, options);
  const std::vector<std::string>& prompts = GetParam().prompts;
  ModelOptions o;
  o.model = std::string(VGGFLOW_SOURCE_DIR) + "/models/nano";
  o.precision = Precision::kFp32;
  const auto model = open_flow_model(o);
  const auto reward = make_reward("colorfulness", {});
  AdaptedFlow lora(*model, LoraOptions{4, 4, {"transformer_blocks.*.attn.to_*"}}, 1);
  ParameterBuffer buffer(lora.parameters());
  AdamW adamw(buffer, {});
  const UpdateInput input{
      .seed = 5,
      .x0 = keyed_normal(5, Purpose::kNoise, 0, 0, std::ssize(prompts), model->state_shape()),
      .times = time_grid({.steps = 8}),
      .micro_batch = 16};
  std::vector<double> rewards;
  for (int i = 0; i <= GetParam().updates; ++i) {
    lora.merge();
    buffer.zero_grad();
    ImageProblem problem({*model, lora, *reward, nullptr}, {.guidance = 3.0}, prompts);
    UpdateInput now = input;
    now.update = static_cast<uint64_t>(i);  // other steps, the same noise
    rewards.push_back(method->update(problem, now).rewards.mean().item<double>());
    buffer.clip(1.0);
    ASSERT_TRUE(adamw.step(3e-3));
  }
  std::printf("%s: reward %.3f -> %.3f\n", GetParam().name.c_str(), rewards.front(),
              rewards.back());
  EXPECT_GT(rewards.back(), rewards.front());
}

}  // namespace
}  // namespace vggflow
