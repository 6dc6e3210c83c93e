// Whole alignments on the pretend device: every method's updates, the evaluations, checkpoints and
// LoRAs are the CPU's, a run goes on elsewhere, and an update seldom makes the device wait.
#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <fstream>

#include "pretend_run.h"
#include "vggflow/families/nano/model.h"
#include "vggflow/io/jsonl.h"
#include "vggflow/ops/random_tensor.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/reference.h"
#include "vggflow/testing/temporary_folder.h"
#include "vggflow/train/align.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using testing::device_counts;
using testing::DeviceCounts;
using testing::on_plain_cpu;
using testing::on_pretend_device;

constexpr int64_t kBatch = 4;

const fs::path& scratch() {
  static const testing::TemporaryFolder folder;
  return folder.path();
}

// A tiny nano model with random weights, and prompts to train and evaluate on.
const fs::path& nano() {
  static const fs::path folder = [] {
    NanoOptions o;
    o.text_width = 8;
    o.network = {.sample_size = 16,
                 .patch_size = 4,
                 .layers = 2,
                 .heads = 2,
                 .head_dim = 8,
                 .context_dim = 8,
                 .pooled_dim = 8,
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
  c.updates = 2;
  c.batch = kBatch;
  c.micro_batch = 4;
  c.time_grid.steps = 6;
  for (const char* matched : {"vgg-flow", "vgg-flow-pmp", "fitted-adjoint"})
    c.methods.set(matched, "bins=3 beta=5");
  c.methods.set("refl", "k_min=3 k_max=5");
  c.methods.set("draft", "k=2");
  c.value.width = 32;
  c.value.layers = 1;
  c.eval.prompts = 2;
  c.eval.images = 3;
  c.eval_every = 100;
  c.checkpoint_every = 100;
  c.lora_rank = 2;
  return c;
}

double worst_difference(const fs::path& a, const fs::path& b) {
  const SafetensorsFile x(a), y(b);
  EXPECT_EQ(x.tensors().size(), y.tensors().size());
  double worst = 0;
  for (const auto& [name, entry] : x.tensors())
    worst = std::max(worst, testing::norm_error(y.load(name), x.load(name)));
  return worst;
}

Json last_evaluation(const std::string& run) {
  Json last;
  for (Json line : read_json_lines(fs::path(run) / "metrics.jsonl")) {
    if (line["kind"] == "eval") last = line["metrics"];
  }
  return last;
}

class RunWith : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Methods, RunWith, ::testing::ValuesIn(method_names()),
                         [](const auto& method) {
                           std::string name = method.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST_P(RunWith, UpdatesAndEvaluationsAreTheCpus) {
  AlignConfig cpu = config_of(GetParam(), "cpu"), device = config_of(GetParam(), "device");
  ASSERT_EQ(on_plain_cpu([&] { return align(cpu); }), RunEnd::kFinished);
  ASSERT_EQ(on_pretend_device([&] { return align(device); }), RunEnd::kFinished);
  EXPECT_LE(worst_difference(fs::path(cpu.run) / "lora.safetensors",
                             fs::path(device.run) / "lora.safetensors"),
            1e-5);
  const Json a = last_evaluation(cpu.run), b = last_evaluation(device.run);
  for (const char* key : {"reward", "diversity"}) {
    const double want = a[key]["mean"], got = b[key]["mean"];
    EXPECT_NEAR(got, want, 1e-5 * std::abs(want)) << key;
  }
}

// What one more update costs, with everything around it alike.
TEST_P(RunWith, AnUpdateSeldomMakesTheDeviceWait) {
  const auto spent_by = [&](int64_t updates) {
    AlignConfig c = config_of(GetParam(), "counted");
    c.updates = updates;
    const DeviceCounts before = device_counts();
    on_pretend_device([&] { return align(c); });
    return device_counts() - before;
  };
  const DeviceCounts one = spent_by(3) - spent_by(2);
  std::printf("%s: %ld operations, %ld copies to the device, %ld to the host, %ld numbers\n",
              GetParam().c_str(), static_cast<long>(one.operations),
              static_cast<long>(one.to_device), static_cast<long>(one.to_host),
              static_cast<long>(one.items));
  EXPECT_LE(one.copies(), 20);
  EXPECT_LE(one.items, 10);
  EXPECT_GT(one.operations, 100);
}

TEST(RunOfStableDiffusion3, IsTheCpus) {
  const auto tiny = [](const std::string& name) {
    AlignConfig c = config_of("vgg-flow", name);
    c.flow.model = testing::models_testdata("sd3_tiny").string();
    c.flow.checkpointing = true;
    c.flow.sd3.t5_tokens = 20;
    c.flow.sd3.height = c.flow.sd3.width = 16;
    c.value.kind = ValueKind::kLora;
    return c;
  };
  AlignConfig cpu = tiny("sd3_cpu"), device = tiny("sd3_device");
  ASSERT_EQ(on_plain_cpu([&] { return align(cpu); }), RunEnd::kFinished);
  ASSERT_EQ(on_pretend_device([&] { return align(device); }), RunEnd::kFinished);
  for (const char* file : {"lora.safetensors", "value.safetensors"})
    EXPECT_LE(worst_difference(fs::path(cpu.run) / file, fs::path(device.run) / file), 1e-5)
        << file;
}

// Checkpoints know no device.
TEST(RunOnADevice, GoesOnOnTheCpuAndBack) {
  AlignConfig whole = config_of("vgg-flow", "whole");
  whole.updates = 4;
  whole.checkpoint_every = 1;
  ASSERT_EQ(on_plain_cpu([&] { return align(whole); }), RunEnd::kFinished);
  AlignConfig moved = config_of("vgg-flow", "moved");
  moved.checkpoint_every = 1;
  moved.updates = 1;
  ASSERT_EQ(on_pretend_device([&] { return align(moved); }), RunEnd::kFinished);
  moved.resume = true;
  moved.updates = 3;
  ASSERT_EQ(on_plain_cpu([&] { return align(moved); }), RunEnd::kFinished);
  moved.updates = 4;
  ASSERT_EQ(on_pretend_device([&] { return align(moved); }), RunEnd::kFinished);
  EXPECT_LE(worst_difference(fs::path(whole.run) / "lora.safetensors",
                             fs::path(moved.run) / "lora.safetensors"),
            1e-5);
}

// The CPU's fused kernels round otherwise than its plain operations, and the regression's gradient
// is a small difference of two fields: it shows their rounding about a thousandfold.
TEST(RunOnADevice, DiffersFromTheCpusFusedKernelsByRounding) {
  AlignConfig fused = config_of("vgg-flow", "fused"), device = config_of("vgg-flow", "device");
  ASSERT_EQ(align(fused), RunEnd::kFinished);
  ASSERT_EQ(on_pretend_device([&] { return align(device); }), RunEnd::kFinished);
  EXPECT_LE(worst_difference(fs::path(fused.run) / "lora_ema.safetensors",
                             fs::path(device.run) / "lora_ema.safetensors"),
            1e-2);
}

}  // namespace
}  // namespace vggflow
