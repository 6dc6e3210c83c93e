// Every method on a tiny Stable Diffusion 3 with random weights: latents, its autoencoder in the
// reward's path, blocks that run again.
#include <ATen/Parallel.h>
#include <ATen/ops/allclose.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <set>
#include <vector>

#include "vggflow/algorithms/registry.h"
#include "vggflow/core/error.h"
#include "vggflow/families/open_model.h"
#include "vggflow/flow/sampling.h"
#include "vggflow/io/jsonl.h"
#include "vggflow/ops/random_tensor.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/reference.h"
#include "vggflow/testing/temporary_folder.h"
#include "vggflow/train/align.h"
#include "vggflow/train/image_problem.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

const std::vector<std::string> kPrompts{"a photo of a cat", "it is 42 dogs", "a dog", "na"};

ModelOptions tiny_model(bool checkpointing) {
  ModelOptions o;
  o.model = testing::models_testdata("sd3_tiny").string();
  o.precision = Precision::kFp32;
  o.checkpointing = checkpointing;
  o.sd3.t5_tokens = 20;
  o.sd3.height = o.sd3.width = 16;
  return o;
}

struct Tiny {
  explicit Tiny(const std::string& name, bool checkpointing = true)
      : model(open_flow_model(tiny_model(checkpointing))), reward(make_reward("colorfulness", {})) {
    at::set_num_threads(1);  // threads cost more than these tensors do
    MethodOptions o;
    for (const char* matched : {"vgg-flow", "vgg-flow-pmp", "fitted-adjoint"})
      o.set(matched, "bins=4 beta=5");
    o.set("refl", "k_min=3 k_max=5");
    o.set("ram", "group=4");
    o.set("draft", "k=2");
    method = make_method(name, o);
    lora = std::make_unique<AdaptedFlow>(*model,
                                         LoraOptions{4, 4, {"transformer_blocks.*.attn.to_*"}}, 1);
    if (method->trains_value())
      value =
          make_value_network({.kind = ValueKind::kSmall, .width = 32, .layers = 1}, *model, {}, 1);
    buffer = std::make_unique<ParameterBuffer>(lora->parameters());
    adamw = std::make_unique<AdamW>(*buffer, AdamWOptions{});
    if (value) value_buffer = std::make_unique<ParameterBuffer>(value->trainable());
  }
  MethodReport update() {
    ImageProblem problem({*model, *lora, *reward, value.get()},
                         {.guidance = 2.0, .clamp = PixelClamp::kStraightThrough}, kPrompts);
    lora->merge();
    buffer->zero_grad();
    if (value_buffer) value_buffer->zero_grad();
    const UpdateInput input{
        .seed = 5,
        .update = 0,
        .first_sample = 0,
        .x0 = keyed_normal(5, Purpose::kNoise, 0, 0, std::ssize(kPrompts), model->state_shape()),
        .times = time_grid({.steps = 8, .kind = GridKind::kSingleShift, .shift = 3}),
        .micro_batch = 8,
        .beta_scale = 1};
    return method->update(problem, input);
  }
  std::unique_ptr<FlowModel> model;
  std::unique_ptr<Method> method;
  std::unique_ptr<Reward> reward;
  std::unique_ptr<AdaptedFlow> lora;
  std::unique_ptr<ValueNetwork> value;
  std::unique_ptr<ParameterBuffer> buffer, value_buffer;
  std::unique_ptr<AdamW> adamw;
};

class Sd3With : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Methods, Sd3With, ::testing::ValuesIn(method_names()),
                         [](const auto& method) {
                           std::string name = method.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

// What the method minimises at the policy: the regression where there is one. The targets of the
// methods with adjoints move with the trajectories, and on a random network they grow faster than
// the policy follows: of these the reward alone must rise.
double objective(const MethodReport& report) {
  if (const auto found = report.loss.find("matching"); found != report.loss.end())
    return found->second;
  for (const auto& [name, value] : report.loss) {
    if (name != "consistency" && name != "boundary") return value;
  }
  fail("no loss");
}

TEST_P(Sd3With, RewardRisesAndLossFallsOnTheSameNoise) {
  Tiny tiny(GetParam());
  const MethodReport first = tiny.update();
  MethodReport last = first;
  for (int i = 0; i < 15; ++i) {
    tiny.buffer->clip(1.0);
    ASSERT_TRUE(tiny.adamw->step(GetParam() == "vgg-flow" ? 3e-4 : 1e-3));
    last = tiny.update();
  }
  if (const std::set<std::string> direct{"vgg-flow", "refl", "draft"};
      direct.contains(GetParam())) {
    EXPECT_LT(objective(last), objective(first));
  }
  EXPECT_GT(last.rewards.mean().item<double>(), first.rewards.mean().item<double>());
}

TEST_P(Sd3With, RunningBlocksAgainChangesNoGradient) {
  Tiny kept(GetParam(), /*checkpointing=*/false), again(GetParam(), /*checkpointing=*/true);
  kept.update();
  again.update();
  ASSERT_GT(kept.buffer->gradient().abs().max().item<double>(), 0);
  EXPECT_TRUE(at::allclose(kept.buffer->gradient(), again.buffer->gradient(), 1e-4, 1e-7));
}

TEST(Sd3Alignment, RunsWithPromptFilesAndWithoutAJudge) {
  const testing::TemporaryFolder folder;
  std::ofstream(folder / "train.txt") << "a photo of a cat\nit is 42 dogs\n";
  std::ofstream(folder / "eval.txt") << "a dog\nna\n";
  AlignConfig c;
  c.run = (folder / "run").string();
  c.flow = tiny_model(true);
  c.prompts = {(folder / "train.txt").string(), (folder / "eval.txt").string()};
  c.reward = "colorfulness";
  c.problem.merge = false;
  c.updates = 2;
  c.batch = 2;
  c.time_grid.steps = 4;
  c.methods.set("vgg-flow", "bins=2");
  c.value.width = 32;
  c.value.layers = 1;
  c.eval.prompts = 2;
  c.eval.images = 3;
  c.eval_every = 2;
  c.lora_rank = 2;
  fs::create_directories(c.run);
  ASSERT_EQ(align(c), RunEnd::kFinished);
  const auto lines = read_json_lines(fs::path(c.run) / "metrics.jsonl");
  const auto last = std::find_if(lines.rbegin(), lines.rend(),
                                 [](const Json& line) { return line["kind"] == "eval"; });
  ASSERT_NE(last, lines.rend());
  EXPECT_FALSE((*last)["metrics"].contains("judge_accuracy"));
  EXPECT_EQ((*last)["metrics"]["features"], "pixels-8x8");
  for (const char* file : {"lora.safetensors", "grids/eval_000002.png", "summary.json"})
    EXPECT_TRUE(fs::exists(fs::path(c.run) / file)) << file;
}

TEST(Sd3Alignment, RefusesToTrainOnThePromptsOfTheEvaluation) {
  const testing::TemporaryFolder folder;
  std::ofstream(folder / "eval.txt") << "a dog\na cat\n";
  AlignConfig c;
  c.run = (folder / "run").string();
  c.reward = "colorfulness";
  c.flow = tiny_model(true);
  c.prompts.eval = (folder / "eval.txt").string();
  c.eval.prompts = 2;
  EXPECT_THAT(testing::message_of([&] { align(c); }),
              ::testing::HasSubstr(
                  "expected prompts.train, the prompts to train on, besides prompts.eval="));
}

// What opening says of the files' variants is said once.
TEST(Sd3Alignment, OpensTheModelsFilesOnce) {
  const testing::TemporaryFolder folder;
  const fs::path model = folder / "model";
  fs::copy(testing::models_testdata("sd3_tiny"), model, fs::copy_options::recursive);
  fs::rename(model / "text_encoder/model.safetensors",
             model / "text_encoder/model.fp16.safetensors");
  std::ofstream(folder / "prompts.txt") << "a dog\nna\n";
  AlignConfig c;
  c.run = (folder / "run").string();
  c.flow = tiny_model(true);
  c.flow.model = model.string();
  c.prompts.train = (folder / "prompts.txt").string();
  c.reward = "colorfulness";
  c.value.kind = ValueKind::kNone;
  c.updates = c.batch = 1;
  c.time_grid.steps = 2;
  c.methods.set("vgg-flow", "bins=1");
  c.eval.prompts = c.eval.images = c.lora_rank = 2;
  ::testing::internal::CaptureStderr();
  const RunEnd end = align(c);
  const std::string said = ::testing::internal::GetCapturedStderr(),
                    once = "the only variant, 'fp16'";
  EXPECT_EQ(end, RunEnd::kFinished);
  ASSERT_NE(said.find(once), std::string::npos) << said;
  EXPECT_EQ(said.find(once), said.rfind(once)) << said;
}

TEST(Sd3Alignment, AdaptersAndTheBaseShareOneCopyOfTheWeights) {
  Tiny tiny("vgg-flow");
  std::set<const void*> before;
  for (const NamedTensor& p : tiny.model->network().parameters())
    before.insert(p.tensor->const_data_ptr());
  tiny.update();
  for (const NamedTensor& p : tiny.model->network().parameters()) {
    EXPECT_TRUE(before.contains(p.tensor->const_data_ptr())) << p.name;
    EXPECT_FALSE(p.tensor->requires_grad()) << p.name;
  }
  // Of the adapted layers the merged network holds weights of its own, the policy none.
  const auto own = [&](const FlowNetwork& network) {
    size_t count = 0;
    for (const NamedTensor& p : network.network().parameters())
      count += !before.contains(p.tensor->const_data_ptr());
    return count;
  };
  EXPECT_EQ(own(tiny.lora->policy()), 0u);
  EXPECT_EQ(own(tiny.lora->merged()), tiny.lora->paths().size());
}

}  // namespace
}  // namespace vggflow
