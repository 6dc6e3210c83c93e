// Whole alignments on the pretend device: every method's updates, the evaluations, checkpoints and
// LoRAs are the CPU's, a run goes on elsewhere, and an update seldom makes the device wait.
#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <fstream>

#include "pretend_run.h"
#include "tiny_sd35.h"
#include "vggflow/algorithms/registry.h"
#include "vggflow/core/config.h"
#include "vggflow/eval/run.h"
#include "vggflow/families/nano/model.h"
#include "vggflow/families/nano/tiny_fixture_test.h"
#include "vggflow/io/jsonl.h"
#include "vggflow/kernels/device_table.h"
#include "vggflow/ops/device_kernels.h"
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
    NanoModel model(testing::tiny_options(), Vocabulary({"red heart ghost cat face pizza"}, 4));
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
  c.methods.set("ram", "group=2");
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

// A method with a kind of value network.
using Trained = std::pair<std::string, ValueKind>;

std::vector<Trained> all_trained() {
  std::vector<Trained> all;
  for (const std::string& name : method_names()) {
    all.emplace_back(name, ValueKind::kNone);
    if (!make_method(name, {})->trains_value()) continue;
    for (const ValueKind kind : {ValueKind::kSmall, ValueKind::kUnet, ValueKind::kLora})
      all.emplace_back(name, kind);
  }
  return all;
}

class RunWith : public ::testing::TestWithParam<Trained> {
 protected:
  static AlignConfig config(const std::string& name) {
    AlignConfig c = config_of(GetParam().first, name);
    c.value.kind = GetParam().second;
    return c;
  }
};
std::string name_of(const ::testing::TestParamInfo<Trained>& trained) {
  const auto& [method, value] = trained.param;
  std::string name = method + (value == ValueKind::kNone ? "" : "_with_" + word_of(value));
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Methods, RunWith, ::testing::ValuesIn(all_trained()), name_of);

// What a run leaves, on the device and on the CPU: trained weights and figures, bit for bit.
void expect_the_cpus(AlignConfig cpu, AlignConfig device) {
  ASSERT_EQ(on_plain_cpu([&] { return align(cpu); }), RunEnd::kFinished);
  ASSERT_EQ(on_pretend_device([&] { return align(device); }), RunEnd::kFinished);
  for (const char* file : {"lora.safetensors", "lora_ema.safetensors", "value.safetensors"}) {
    ASSERT_EQ(fs::exists(fs::path(cpu.run) / file), fs::exists(fs::path(device.run) / file));
    if (!fs::exists(fs::path(cpu.run) / file)) continue;
    EXPECT_EQ(worst_difference(fs::path(cpu.run) / file, fs::path(device.run) / file), 0) << file;
  }
  const Json a = last_evaluation(cpu.run), b = last_evaluation(device.run);
  for (const char* key : {"reward", "diversity"}) EXPECT_EQ(a[key]["mean"], b[key]["mean"]) << key;
}

TEST_P(RunWith, UpdatesAndEvaluationsAreTheCpus) {
  expect_the_cpus(config("cpu"), config("device"));
}

// What a method or its value network does by other settings than the defaults.
struct Variant {
  std::string name, method;
  std::vector<std::string> settings;
  ValueKind value = ValueKind::kNone;
};
class RunOf : public ::testing::TestWithParam<Variant> {
 protected:
  static AlignConfig config(const std::string& name) {
    AlignConfig c = config_of(GetParam().method, name);
    c.value.kind = GetParam().value;
    c.reward_files.reward_model = std::string(VGGFLOW_SOURCE_DIR) + "/models/emoji-clip";
    for (const std::string& setting : GetParam().settings) apply_override(fields_of(c), setting);
    return c;
  }
};
// Those whose passes differ most from the defaults': what makes the device wait is counted, too.
const std::vector<Variant> kCounted{
    {"step", "vgg-flow", {"vgg.consistency.kind=step"}, ValueKind::kSmall},
    {"returned_on_coarse",
     "vgg-flow",
     {"vgg.consistency.kind=return", "vgg.consistency.warmup=1", "vgg.guess=coarse", "vgg.nodes=2"},
     ValueKind::kSmall},
    {"coarse", "vgg-flow", {"vgg.guess=coarse", "vgg.nodes=3"}},
    {"rsm_gaussian", "vgg-flow", {"vgg.guess=endpoint", "vgg.eta=gaussian"}},
    {"guarded", "vgg-flow", {"norm_guard.weight=1", "norm_guard.every=1"}},
    {"balanced", "vgg-flow", {"reward=colorfulness + 9*emoji-clip", "reward_clip.balance=true"}},
    {"anchored", "vgg-flow-pmp", {"pmp.steps=2", "pmp.early=anchor"}},
    {"n_step", "fitted-adjoint", {"fitted.steps=2"}},
    {"bridge", "flowbp", {"flowbp.kind=bridge"}}};
const std::vector<Variant> kOthers{
    {"paper", "vgg-flow", {"vgg.consistency.kind=paper"}, ValueKind::kSmall},
    {"release", "vgg-flow", {"vgg.consistency.kind=release"}, ValueKind::kSmall},
    {"returned",
     "vgg-flow",
     {"vgg.consistency.kind=return", "vgg.consistency.warmup=1"},
     ValueKind::kSmall},
    {"probed", "vgg-flow", {"vgg.probe_every=1"}},
    {"damped", "vgg-flow", {"vgg.eta=damped"}},
    {"release_steps", "vgg-flow", {"vgg.force_last_step=true", "vgg.skip_first_step=true"}},
    {"budget", "vgg-flow", {"beta.budget=0.01", "norm_guard.every=1"}},
    {"reward_norm", "vgg-flow", {"reward_clip.kind=norm"}},
    {"full_adjoint", "vgg-flow-pmp", {"pmp.adjoint=full"}},
    {"frozen_adjoint", "vgg-flow-pmp", {"pmp.steps=2", "pmp.early=frozen_adjoint"}},
    {"constant_clip", "adjoint-matching", {"adjoint_matching.clip=constant"}},
    {"units_of_reward", "adjoint-matching", {"adjoint_matching.lambda_unit=reward"}},
    {"relu", "refl", {"refl.transform.kind=relu_below", "refl.transform.top=100"}},
    {"draft_lv", "draft", {"draft.kind=lv", "draft.lv_own_step=true"}},
    {"draft_gaussian", "draft", {"draft.kind=gaussian"}},
    {"sparse", "flowbp", {"flowbp.kind=sparse"}},
    {"rescaled", "flowbp", {"flowbp.lagrange.rescale=1"}},
    {"eam_difference", "eam", {"eam.control=difference", "eam.lambda_unit=reward"}},
    {"ram_apart", "ram", {"ram.normalize=false", "ram.lag=0"}}};
std::string name_of_variant(const ::testing::TestParamInfo<Variant>& variant) {
  return variant.param.name;
}
INSTANTIATE_TEST_SUITE_P(Counted, RunOf, ::testing::ValuesIn(kCounted), name_of_variant);
INSTANTIATE_TEST_SUITE_P(Others, RunOf, ::testing::ValuesIn(kOthers), name_of_variant);

TEST_P(RunOf, UpdatesAndEvaluationsAreTheCpus) { expect_the_cpus(config("cpu"), config("device")); }

// What one more update of 20 steps costs, with everything around it alike.
void expect_few_waits(AlignConfig c) {
  const auto spent_by = [&](int64_t updates) {
    fs::remove_all(c.run);
    fs::create_directories(c.run);
    c.updates = updates;
    c.time_grid.steps = 20;
    const DeviceCounts before = device_counts();
    on_pretend_device([&] { return align(c); });
    return device_counts() - before;
  };
  const DeviceCounts one = spent_by(2) - spent_by(1);
  std::printf("%ld operations, %ld copies to the device, %ld to the host, %ld numbers\n",
              static_cast<long>(one.operations), static_cast<long>(one.to_device),
              static_cast<long>(one.to_host), static_cast<long>(one.items));
  EXPECT_LE(one.copies(), 20);
  EXPECT_LE(one.items, 10);
  EXPECT_GT(one.operations, 100);
}

class CountedRunOf : public RunOf {};
INSTANTIATE_TEST_SUITE_P(Variants, CountedRunOf, ::testing::ValuesIn(kCounted), name_of_variant);
TEST_P(CountedRunOf, AnUpdateSeldomMakesTheDeviceWait) { expect_few_waits(config("counted")); }

TEST_P(RunWith, AnUpdateSeldomMakesTheDeviceWait) { expect_few_waits(config("counted")); }

// In bf16 v_theta - v_base is carried through the rollout (ops/pair.h).
class RunInBf16 : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Methods, RunInBf16, ::testing::Values("vgg-flow", "adjoint-matching"));

TEST_P(RunInBf16, IsTheCpusAndSeldomMakesTheDeviceWait) {
  const auto config = [](const std::string& name) {
    AlignConfig c = config_of(GetParam(), name);
    c.flow.precision = Precision::kBf16;
    c.value.kind = ValueKind::kNone;
    return c;
  };
  expect_the_cpus(config("bf16_cpu"), config("bf16_device"));
  expect_few_waits(config("bf16_counted"));
}

AlignConfig config_of_sd3(const fs::path& model, const std::string& name) {
  AlignConfig c = config_of("vgg-flow", name);
  c.flow.model = model.string();
  c.flow.checkpointing = true;
  c.flow.sd3.t5_tokens = 20;
  c.flow.sd3.height = c.flow.sd3.width = 16;
  c.value.kind = ValueKind::kLora;
  return c;
}

TEST(RunOfStableDiffusion3, IsTheCpus) {
  testing::write_sd35(scratch() / "sd35");
  for (const fs::path& model : {testing::models_testdata("sd3_tiny"), scratch() / "sd35"})
    expect_the_cpus(config_of_sd3(model, "sd3_cpu"), config_of_sd3(model, "sd3_device"));
}

TEST(RunOfStableDiffusion3, SeldomMakesTheDeviceWait) {
  expect_few_waits(config_of_sd3(testing::models_testdata("sd3_tiny"), "sd3_counted"));
}

TEST(RunOnADevice, BeginsItsLogWithTheDevice) {
  AlignConfig c = config_of("draft", "named");
  c.updates = 1;
  on_pretend_device([&] { return align(c); });
  std::ifstream log(fs::path(c.run) / "log.txt");
  std::string first;
  std::getline(log, first);
  EXPECT_EQ(first, "device: pretend:0");
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
  EXPECT_EQ(worst_difference(fs::path(whole.run) / "lora.safetensors",
                             fs::path(moved.run) / "lora.safetensors"),
            0);
}

// The merged adapters, and guidance by the value network of a run.
TEST(RunOnADevice, ItsAdaptersAndItsValueNetworkSampleAsOnTheCpu) {
  AlignConfig run = config_of("vgg-flow", "sampled");
  ASSERT_EQ(on_pretend_device([&] { return align(run); }), RunEnd::kFinished);
  for (const GuideKind kind : {GuideKind::kNone, GuideKind::kOneStep, GuideKind::kValue}) {
    GeneratorOptions o;
    o.flow = run.flow;
    o.time_grid.steps = 4;
    o.guide.kind = kind;
    if (kind == GuideKind::kNone) o.lora = run.run + "/lora.safetensors";
    if (kind == GuideKind::kValue) o.guide.value = run.run + "/value.safetensors";
    const auto images = [&] {
      const Generator generator(o);
      const Tensor noise = keyed_normal(1, Purpose::kTest, 0, 0, 2, {3, 16, 16});
      const std::vector<std::string> prompts{"red heart", "ghost"};
      return at::stack({generator.generate(prompts, noise, /*aligned=*/true),
                        generator.generate(prompts, noise, /*aligned=*/false)});
    };
    const Tensor device = on_pretend_device(images);
    EXPECT_EQ(device.device(), testing::pretend_device());
    EXPECT_TRUE(at::equal(device.cpu(), on_plain_cpu(images))) << static_cast<int>(kind);
    EXPECT_FALSE(at::equal(device[0], device[1])) << static_cast<int>(kind);
  }
}

// The parts of an update by the names that a profiler shows, each ended.
TEST(RunOnADevice, NamesItsPartsForProfilers) {
  static std::vector<std::string> begun;
  static int64_t ended;
  begun.clear();
  ended = 0;
  device::CudaApi listener{};
  listener.range_push = [](const char* name) { begun.emplace_back(name); };
  listener.range_pop = [] { ++ended; };
  AlignConfig c = config_of("vgg-flow", "profiled");
  c.updates = 1;
  {
    const device::PluginScope plugin(listener);
    on_plain_cpu([&] { return align(c); });
    EXPECT_TRUE(begun.empty()) << "on the CPU";
    fs::remove_all(c.run);
    fs::create_directories(c.run);
    on_pretend_device([&] { return align(c); });
  }
  EXPECT_EQ(ended, std::ssize(begun));
  for (const char* part : {"update", "merge", "rollout", "reward", "policy", "base",
                           "value network", "step", "evaluation"})
    EXPECT_THAT(begun, ::testing::Contains(part));
}

// The fused kernels of a device, in a whole run: their host's instantiation as a back end of the
// CPU, against the compositions that kernels=plain takes.
TEST(RunOnADevice, ThroughItsFusedKernelsDiffersFromTheCompositionsByRounding) {
  static int64_t launches;
  launches = 0;
  kernels::DeviceTable table = kernels::host_table();
  table.ln_modulate = [](const kernels::LnModulate& a, void* stream) {
    ++launches;
    return kernels::host_table().ln_modulate(a, stream);
  };
  for (const char* method : {"vgg-flow", "draft"}) {
    AlignConfig plain = config_of(method, "composed"), fused = config_of(method, "by_kernels");
    ASSERT_EQ(on_plain_cpu([&] { return align(plain); }), RunEnd::kFinished);
    {
      const ops::DeviceKernelsScope kernels(at::kCPU, table);
      ASSERT_EQ(align(fused), RunEnd::kFinished);
    }
    EXPECT_GT(launches, 0);
    EXPECT_LE(worst_difference(fs::path(plain.run) / "lora_ema.safetensors",
                               fs::path(fused.run) / "lora_ema.safetensors"),
              1e-2)
        << method;
  }
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
