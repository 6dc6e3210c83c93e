// On a GPU: whole updates of a tiny nano model are the CPU's, the same bits come twice, and a run
// goes on elsewhere. The gradient of a regression is a small difference of two fields, which shows
// rounding about a thousandfold: 1e-3 is what two devices can agree to.
#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "gpu.h"
#include "vggflow/families/nano/model.h"
#include "vggflow/io/safetensors.h"
#include "vggflow/ops/random_tensor.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/temporary_folder.h"
#include "vggflow/train/align.h"
#include "vggflow/weights/frozen_weights.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using RunOnGpu = testing::OnGpu;

const fs::path& scratch() {
  static const testing::TemporaryFolder folder;
  return folder.path();
}

// Random weights: nothing has to be brought along.
const fs::path& nano() {
  static const fs::path folder = [] {
    const DeviceScope cpu(DeviceOptions{.device = "cpu"});
    NanoOptions o;
    o.text_width = 16;
    o.network = {.sample_size = 16,
                 .patch_size = 4,
                 .layers = 2,
                 .heads = 2,
                 .head_dim = 16,
                 .context_dim = 16,
                 .pooled_dim = 16,
                 .pos_embed_max = 4};
    NanoModel model(o, Vocabulary({"red heart ghost cat face pizza"}, 4));
    uint64_t id = 0;
    for (const NamedTensor& p : model.parameters())
      *p.tensor = 0.2 * keyed_normal(3, Purpose::kTest, 0, id++, 1, p.tensor->sizes()).squeeze(0);
    model.save(scratch() / "nano", {}, at::kFloat);
    return scratch() / "nano";
  }();
  return folder;
}

AlignConfig config_of(const std::string& method, const std::string& name) {
  std::ofstream(scratch() / "train.txt") << "red heart\nghost\ncat face\n";
  std::ofstream(scratch() / "eval.txt") << "pizza\nred\n";
  AlignConfig c;
  c.run = (scratch() / name).string();
  fs::remove_all(c.run);
  fs::create_directories(c.run);
  c.flow.model = nano().string();
  c.flow.precision = Precision::kFp32;
  c.prompts = {(scratch() / "train.txt").string(), (scratch() / "eval.txt").string()};
  c.method = method;
  c.reward = "colorfulness";
  c.updates = 1;
  c.batch = 4;
  c.micro_batch = 4;
  c.time_grid.steps = 6;
  for (const char* matched : {"vgg-flow", "vgg-flow-pmp"}) c.methods.set(matched, "bins=3 beta=5");
  c.methods.set("draft", "k=2");
  c.value.width = 32;
  c.value.layers = 1;
  c.eval.prompts = 2;
  c.eval.images = 3;
  c.eval_every = 100;
  c.checkpoint_every = 1;
  c.lora_rank = 2;
  return c;
}

void run_on(const DeviceOptions& options, AlignConfig config) {
  const DeviceScope scope(options);
  ASSERT_EQ(align(config), RunEnd::kFinished);
}
DeviceOptions on_cpu() { return {.device = "cpu"}; }
DeviceOptions on_gpu(bool deterministic = false) {
  DeviceOptions o = testing::gpu_options();
  o.deterministic = deterministic;
  return o;
}

double worst_difference(const fs::path& a, const fs::path& b) {
  const SafetensorsFile x(a), y(b);
  double worst = 0;
  for (const auto& [name, entry] : x.tensors())
    worst = std::max(worst, testing::norm_error(y.load(name), x.load(name)));
  return worst;
}
double lora_difference(const AlignConfig& a, const AlignConfig& b) {
  return worst_difference(fs::path(a.run) / "lora.safetensors",
                          fs::path(b.run) / "lora.safetensors");
}
// Adam's first moment is the mean of the gradients; its steps would show their signs alone.
double gradient_difference(const AlignConfig& a, const AlignConfig& b, int64_t update) {
  const auto moment = [&](const AlignConfig& c) {
    const auto folder = fmt::format("update_{:06d}", update);
    return SafetensorsFile(fs::path(c.run) / "checkpoints" / folder / "state.safetensors")
        .load("policy_m");
  };
  return testing::norm_error(moment(b), moment(a));
}

TEST_F(RunOnGpu, GradientsOfEveryKindOfMethodAreTheCpus) {
  for (const char* method : {"vgg-flow", "vgg-flow-pmp", "draft"}) {
    AlignConfig cpu = config_of(method, "cpu"), gpu = config_of(method, "gpu");
    run_on(on_cpu(), cpu);
    run_on(on_gpu(), gpu);
    const double error = gradient_difference(cpu, gpu, 1);
    std::printf("%s: gradient on the GPU differs by %.1e\n", method, error);
    EXPECT_LE(error, 1e-3) << method;
  }
}

TEST_F(RunOnGpu, GivesTheSameBitsTwiceInDeterministicMode) {
  AlignConfig one = config_of("vgg-flow", "one"), two = config_of("vgg-flow", "two");
  one.updates = two.updates = 2;
  run_on(on_gpu(/*deterministic=*/true), one);
  run_on(on_gpu(/*deterministic=*/true), two);
  EXPECT_EQ(lora_difference(one, two), 0);
}

TEST_F(RunOnGpu, TwoUpdatesAndTwoMoreAreFour) {
  AlignConfig whole = config_of("vgg-flow", "whole"), parts = config_of("vgg-flow", "parts");
  whole.updates = 4;
  run_on(on_gpu(/*deterministic=*/true), whole);
  parts.updates = 2;
  run_on(on_gpu(/*deterministic=*/true), parts);
  parts.resume = true;
  parts.updates = 4;
  run_on(on_gpu(/*deterministic=*/true), parts);
  EXPECT_EQ(lora_difference(whole, parts), 0);
}

TEST_F(RunOnGpu, GoesOnOnTheCpuAndBack) {
  AlignConfig whole = config_of("vgg-flow", "whole_cpu"), moved = config_of("vgg-flow", "moved");
  whole.updates = 3;
  run_on(on_cpu(), whole);
  run_on(on_gpu(), moved);
  moved.resume = true;
  moved.updates = 2;
  run_on(on_cpu(), moved);
  moved.updates = 3;
  run_on(on_gpu(), moved);
  EXPECT_LE(gradient_difference(whole, moved, 3), 5e-2);
}

// Through two stages of pinned memory.
TEST_F(RunOnGpu, WeightsOfAFileComeUpAsTheyAre) {
  const Tensor large = keyed_normal(4, Purpose::kTest, 0, 0, 1, {25'000'003}).flatten();
  Tensor target = at::empty(large.sizes(), at::kMeta);
  adopt_weights({{"w", &target}}, {.tensors = {{"w", large}}, .files = {}, .origin = "[test]"},
                at::kFloat);
  EXPECT_EQ(target.device(), gpu());
  EXPECT_TRUE(at::equal(target.cpu(), large));
}

}  // namespace
}  // namespace vggflow
