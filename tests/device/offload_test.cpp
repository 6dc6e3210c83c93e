// Blocks whose weights stay on the host: what a run gives is what it gives with all weights on the
// device, bit for bit, and the device holds two blocks at a time.
#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "pretend_run.h"
#include "tiny_sd35.h"
#include "vggflow/algorithms/registry.h"
#include "vggflow/families/sd3/mmdit_network.h"
#include "vggflow/families/value_network.h"
#include "vggflow/flow/adapted_flow.h"
#include "vggflow/io/safetensors.h"
#include "vggflow/networks/autoencoders/taesd.h"
#include "vggflow/nn/block_ring.h"
#include "vggflow/ops/random_tensor.h"
#include "vggflow/rewards/reward.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"
#include "vggflow/train/align.h"
#include "vggflow/train/image_problem.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using testing::DeviceLimit;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;
using testing::on_plain_cpu;
using testing::on_pretend_device;
using testing::pretend_device;

const fs::path& scratch() {
  static const testing::TemporaryFolder folder;
  return folder.path();
}

// A tiny Stable Diffusion 3.5 of four blocks, so that two of them are always away.
const fs::path& sd35() {
  static const fs::path folder = [] {
    testing::write_sd35(scratch() / "sd35", /*layers=*/4);
    return scratch() / "sd35";
  }();
  return folder;
}

// LibTorch's errors too.
std::string refusal_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const std::exception& e) {
    return e.what();
  }
  return "no refusal";
}

AlignConfig config_of(const std::string& method, ValueKind value, const std::string& name) {
  std::ofstream(scratch() / "train.txt") << "a dog\na cat\n";
  std::ofstream(scratch() / "eval.txt") << "a bird\na fish\n";
  AlignConfig c;
  c.run = (scratch() / name).string();
  fs::remove_all(c.run);
  c.flow.model = sd35().string();
  c.flow.checkpointing = true;
  c.flow.sd3.t5_tokens = 20;
  c.flow.sd3.height = c.flow.sd3.width = 16;
  c.prompts = {(scratch() / "train.txt").string(), (scratch() / "eval.txt").string()};
  c.method = method;
  c.reward = "colorfulness";
  c.value.kind = value;
  c.updates = 2;
  c.batch = c.micro_batch = 2;
  c.time_grid.steps = 6;
  c.methods.set("draft", "k=2");
  for (const char* matched : {"vgg-flow", "vgg-flow-pmp", "fitted-adjoint"})
    c.methods.set(matched, "bins=2 beta=5");
  c.eval.prompts = c.eval.images = c.lora_rank = 2;
  c.eval_every = c.checkpoint_every = 100;
  return c;
}

std::string bytes_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// The tensors of a run's file; its metadata hold the settings.
void expect_equal(const AlignConfig& a, const AlignConfig& b, const std::string& file) {
  const fs::path one = fs::path(a.run) / file, other = fs::path(b.run) / file;
  ASSERT_EQ(fs::exists(one), fs::exists(other)) << file;
  if (!fs::exists(one)) return;
  const SafetensorsFile x(one), y(other);
  ASSERT_EQ(x.tensors().size(), y.tensors().size());
  for (const auto& [name, entry] : x.tensors())
    EXPECT_TRUE(at::equal(x.load(name), y.load(name))) << file << " " << name;
}

using Trained = std::tuple<std::string, ValueKind, Precision>;
class Offloaded : public ::testing::TestWithParam<Trained> {};
INSTANTIATE_TEST_SUITE_P(Runs, Offloaded,
                         ::testing::Values(Trained{"vgg-flow", ValueKind::kLora, Precision::kFp32},
                                           Trained{"vgg-flow", ValueKind::kNone, Precision::kBf16},
                                           Trained{"adjoint-matching", ValueKind::kNone,
                                                   Precision::kFp32},
                                           Trained{"draft", ValueKind::kNone, Precision::kFp32}));

TEST_P(Offloaded, RunsGiveTheSameBits) {
  const auto& [method, value, precision] = GetParam();
  AlignConfig resident = config_of(method, value, "resident"),
              offloaded = config_of(method, value, "offloaded");
  resident.flow.precision = offloaded.flow.precision = precision;
  offloaded.flow.offload = Offload::kBlocks;
  ASSERT_EQ(on_pretend_device([&] { return align(resident); }), RunEnd::kFinished);
  ASSERT_EQ(on_pretend_device([&] { return align(offloaded); }), RunEnd::kFinished);
  for (const char* file : {"lora.safetensors", "value.safetensors"})
    expect_equal(resident, offloaded, file);
}

// Neither merged rollouts nor those with the adapters beside the weights.
TEST(OffloadedBlocks, MergeTheAdaptersOrNot) {
  for (const bool merge : {true, false}) {
    AlignConfig resident = config_of("draft", ValueKind::kNone, "resident"),
                offloaded = config_of("draft", ValueKind::kNone, "offloaded");
    resident.problem.merge = offloaded.problem.merge = merge;
    resident.updates = offloaded.updates = 1;
    offloaded.flow.offload = Offload::kBlocks;
    on_pretend_device([&] { return align(resident); });
    on_pretend_device([&] { return align(offloaded); });
    SCOPED_TRACE(merge ? "merged" : "beside the weights");
    expect_equal(resident, offloaded, "lora.safetensors");
  }
}

TEST(OffloadedBlocks, AreRefusedWithoutRecomputingAndOfNano) {
  AlignConfig c = config_of("draft", ValueKind::kNone, "refused");
  c.flow.offload = Offload::kBlocks;
  c.flow.checkpointing = false;
  EXPECT_THAT(message_of([&] { align(c); }),
              HasSubstr("[offload] expected checkpointing=true with offload=blocks"));
  c.flow.checkpointing = true;
  c.flow.sd3 = {};
  c.flow.model = std::string(VGGFLOW_SOURCE_DIR) + "/models/nano";
  EXPECT_THAT(message_of([&] { align(c); }),
              HasSubstr("is a nano model, whose weights any GPU holds"));
}

TEST(OffloadedBlocks, AreAllThereOnTheCpuAndItSaysSo) {
  AlignConfig c = config_of("draft", ValueKind::kNone, "cpu");
  c.flow.offload = Offload::kBlocks;
  c.updates = 1;
  ASSERT_EQ(on_plain_cpu([&] { return align(c); }), RunEnd::kFinished);
  EXPECT_THAT(bytes_of(fs::path(c.run) / "log.txt"),
              HasSubstr("offload=blocks changes nothing on the CPU"));
}

// ---- the ring -----------------------------------------------------------------------------------

struct OneLayer : Module {
  explicit OneLayer(double value) : layer(4, 4) {
    add("layer", layer);
    layer.weight.fill_(value);
  }
  double number() const { return layer.weight.cpu()[0][0].item<double>(); }
  Linear layer;
};

struct Blocks {
  explicit Blocks(int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      blocks.push_back(std::make_unique<OneLayer>(static_cast<double>(i)));
      all.push_back(blocks.back().get());
    }
  }
  std::vector<std::unique_ptr<OneLayer>> blocks;
  std::vector<Module*> all;
};

TEST(BlockRing, HasTheBlockThatIsAskedForAndFetchesTheNextWhicheverWay) {
  Blocks b(5);
  BlockRing ring(b.all, pretend_device(), blocks_on_host(pretend_device()));
  const std::vector<size_t> pass{0, 1, 2, 3, 4}, back{4, 3, 2, 1, 0};
  std::vector<size_t> order;
  for (const auto* way : {&pass, &pass, &back, &pass, &back})
    order.insert(order.end(), way->begin(), way->end());
  const auto before = testing::device_counts();
  for (const size_t i : order) {
    ring.acquire(i);
    EXPECT_EQ(b.blocks[i]->number(), static_cast<double>(i));
  }
  // One a block; the first pass fetches the second's first block besides, and a turn finds one
  // there.
  EXPECT_EQ((testing::device_counts() - before).to_device, 6 + 5 + 4 + 4 + 4);
  for (const size_t i : {size_t{3}, size_t{1}, size_t{4}}) {
    ring.acquire(i);
    EXPECT_EQ(b.blocks[i]->number(), static_cast<double>(i)) << "in no order";
  }
}

TEST(BlockRing, HoldsTwoBlocksAndNothingOfTheOthers) {
  Blocks b(4);
  const double before = [] {
    const DeviceScope device(pretend_device());
    return device_memory()->now_gib;
  }();
  BlockRing ring(b.all, pretend_device(), blocks_on_host(pretend_device()));
  const auto here = [&] {
    std::vector<bool> out;
    for (const auto& block : b.blocks) out.push_back(block->layer.weight.storage().nbytes() > 0);
    return out;
  };
  EXPECT_THAT(here(), ElementsAre(false, false, false, false));
  ring.acquire(0);
  EXPECT_THAT(here(), ElementsAre(true, true, false, false));
  ring.acquire(1);
  EXPECT_THAT(here(), ElementsAre(false, true, true, false));
  const DeviceScope device(pretend_device());
  EXPECT_LE(device_memory()->now_gib - before, 4096.0 / (1 << 30));
}

// ---- a cap on bytes -----------------------------------------------------------------------------

// Stable Diffusion 3.5 large with its widths and random weights, and of its 38 blocks (213 M
// numbers each) a few. Prompts are random embeddings, images those of a TAESD3 of random weights.
struct LargeShape {
  int64_t blocks, side, tokens;  // side of the latents
};

class LargeModel : public OnMmdit<FlowModel> {
 public:
  LargeModel(const LargeShape& shape, bool offload) : shape_(shape) {
    {
      const ShapesOnly no_memory;
      network_ = std::make_unique<Mmdit>(MmditOptions{.sample_size = shape.side,
                                                      .channels = 16,
                                                      .patch_size = 2,
                                                      .layers = shape.blocks,
                                                      .heads = 38,
                                                      .head_dim = 64,
                                                      .context_dim = kContext,
                                                      .pooled_dim = kPooled,
                                                      .pos_embed_max = shape.side / 2,
                                                      .qk_norm = true});
    }
    for (const NamedTensor& p : network_->parameters()) {
      const bool stays = offload && p.name.starts_with("transformer_blocks.");
      *p.tensor = random_like(*p.tensor, p.tensor->dim() > 1 ? 1.0 / 50 : 0.1)
                      .to(at::kBFloat16)
                      .to(stays ? at::Device(at::kCPU) : current_device());
    }
    network_->compute = at::kBFloat16;
    network_->checkpointing = true;
    network_->join_projections();
    if (offload) network_->bring_blocks_from(blocks_on_host(current_device()), current_device());
    for (const NamedTensor& p : decoder_.parameters())
      *p.tensor = random_like(*p.tensor, p.tensor->dim() > 1 ? 1.0 / 24 : 0.1).to(current_device());
    decoder_.checkpointing = true;
  }
  Mmdit& mmdit() override { return *network_; }
  const Mmdit& mmdit() const override { return *network_; }
  std::string description() const override { return network_->description(); }
  Conditioning encode(const std::vector<std::string>& prompts) const override {
    return unconditional(std::ssize(prompts));
  }
  Conditioning unconditional(int64_t count) const override {
    const auto like = at::device(current_device()).dtype(at::kBFloat16);
    return {at::ones({count, shape_.tokens, kContext}, like), at::ones({count, kPooled}, like)};
  }
  std::vector<int64_t> state_shape() const override { return {16, shape_.side, shape_.side}; }
  Tensor decode(const Tensor& x1) const override { return decoder_.decode(x1); }
  Dual decode(const Dual& x1) const override { return decoder_.decode(x1); }

 private:
  static constexpr int64_t kContext = 4096, kPooled = 2048;
  // Random rows, one after another again: drawing them all takes longer than the test.
  Tensor random_like(const Tensor& shape, double scale) {
    const int64_t numbers = shape.numel();
    const Tensor row = scale * keyed_normal(5, Purpose::kTest, 0, drawn_++, 1,
                                            {std::min<int64_t>(numbers, 65537)});
    return row.repeat({1, numbers / row.numel() + 1})
        .flatten()
        .narrow(0, 0, numbers)
        .view(shape.sizes());
  }
  LargeShape shape_;
  uint64_t drawn_ = 0;
  std::unique_ptr<Mmdit> network_;
  TaesdDecoder decoder_;
};

// The largest gradient of an adapter after one update, and of the value network where there is one.
struct Gradients {
  double policy = 0, value = 0;
};
double largest_gradient(const std::vector<NamedTensor>& parameters) {
  double largest = 0;
  for (const NamedTensor& p : parameters) {
    if (p.tensor->grad().defined())
      largest = std::max(largest, p.tensor->grad().abs().max().item<double>());
  }
  return largest;
}

Gradients update(const LargeShape& shape, const std::string& name, const std::string& settings,
                 ValueKind kind) {
  LargeModel model(shape, /*offload=*/true);
  const AdaptedFlow adapted(model, {2, 2, {"transformer_blocks.*.attn.to_q"}}, /*seed=*/1);
  const auto reward = make_reward("colorfulness", {});
  MethodOptions options;
  options.set(name, settings);
  const auto value = make_value_network({.kind = kind, .width = 32, .layers = 2}, model, {}, 0);
  if (value) {
    for (const NamedTensor& p : value->trainable()) p.tensor->requires_grad_(true);
  }
  ImageProblem problem({model, adapted, *reward, value.get()},
                       {.merge = false, .guidance = 1, .clamp = PixelClamp::kStraightThrough},
                       {"a dog"});
  UpdateInput input;
  input.x0 = keyed_normal(6, Purpose::kTest, 0, 0, 1, model.state_shape()).to(current_device());
  input.times = {0, 0.5, 1};
  make_method(name, options)->update(problem, input);
  return {largest_gradient(adapted.parameters()), value ? largest_gradient(value->trainable()) : 0};
}

TEST(OffloadedBlocks, OfStableDiffusion35LargeStayUnderACapThatAllOfThemExceed) {
  const DeviceLimit cap(1'000'000'000);
  on_pretend_device([] {
    const LargeShape shape{.blocks = 3, .side = 4, .tokens = 3};
    EXPECT_THAT(refusal_of([&] { LargeModel(shape, /*offload=*/false); }),
                HasSubstr("out of memory"));
    for (const auto& [method, settings] :
         {std::pair{"vgg-flow", "bins=1 beta=5 force_last_step=true"}, {"draft", "k=1"}}) {
      reset_device_peak();
      EXPECT_GT(update(shape, method, settings, ValueKind::kNone).policy, 0) << method;
      std::printf("%s: %.3f GiB of the device at most\n", method, device_memory()->peak_gib);
    }
  });
}

// With a prompt of 77 tokens, and a value network by the exact residual, whose tangents and
// pull-backs go through the base.
TEST(OffloadedBlocks, OfStableDiffusion35LargeTrainWithAValueNetworkUnderACap) {
  const DeviceLimit cap(1'200'000'000);
  on_pretend_device([] {
    const LargeShape shape{.blocks = 3, .side = 16, .tokens = 77};
    EXPECT_THAT(refusal_of([&] { LargeModel(shape, /*offload=*/false); }),
                HasSubstr("out of memory"));
    reset_device_peak();
    const Gradients g =
        update(shape, "vgg-flow", "bins=1 beta=5 force_last_step=true consistency.kind=exact",
               ValueKind::kUnet);
    EXPECT_GT(g.policy, 0);
    EXPECT_GT(g.value, 0);
    std::printf("vgg-flow: %.3f GiB of the device at most\n", device_memory()->peak_gib);
  });
}

}  // namespace
}  // namespace vggflow
