// The costs that are predicted from sizes against the real networks: bytes as the allocator counts
// them, parameters and products as they are.
#include "vggflow/families/sd3/mmdit_cost.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>

#include "vggflow/core/processor.h"
#include "vggflow/families/sd3/family.h"
#include "vggflow/families/sd3/mmdit_network.h"
#include "vggflow/families/sd3/releases.h"
#include "vggflow/families/value_cost.h"
#include "vggflow/networks/autoencoders/decoder_cost.h"
#include "vggflow/networks/model_folder.h"
#include "vggflow/nn/lora.h"
#include "vggflow/ops/random_tensor.h"
#include "vggflow/testing/memory_meter.h"

namespace vggflow {
namespace {

using testing::MemoryMeter;

constexpr double kWithin = 0.15;  // what the planner promises

void expect_near(double predicted, double measured, const std::string& what) {
  EXPECT_NEAR(predicted / measured, 1.0, kWithin)
      << what << ": predicted " << predicted << ", measured " << measured;
}

struct Bytes {
  double graph, peak;
};

// Graph and peak of y = f() and its backward pass, the result's own bytes left out.
template <class F>
Bytes measure(const F& f, const Tensor& leaf) {
  const at::AutoGradMode on(true);
  MemoryMeter meter;
  const Tensor y = f();
  const double graph = meter.live() - static_cast<double>(y.nbytes());
  y.sum().backward();
  const double peak = meter.peak();
  if (leaf.defined()) leaf.mutable_grad() = Tensor();
  return {graph, peak};
}

template <class F>
double measure_idle(const F& f) {
  const at::NoGradGuard no_grad;
  MemoryMeter meter;
  const auto y = f();
  return meter.peak();
}

MmditOptions medium(bool qk_norm = false) {
  return {.sample_size = 32,
          .channels = 16,
          .patch_size = 2,
          .layers = 3,
          .heads = 4,
          .head_dim = 64,
          .context_dim = 128,
          .pooled_dim = 64,
          .pos_embed_max = 32,
          .qk_norm = qk_norm};
}

struct Setting {
  at::ScalarType dtype;
  bool adapters, input_gradient, checkpointing, qk_norm;
  int64_t rows;
};

std::string name_of(const Setting& s) {
  return fmt::format("{}{}{}{}{} rows {}", s.dtype == at::kFloat ? "fp32" : "bf16",
                     s.adapters ? " adapters" : "", s.input_gradient ? " input" : "",
                     s.checkpointing ? " checkpointing" : "", s.qk_norm ? " qk_norm" : "", s.rows);
}

class MmditCost : public ::testing::TestWithParam<Setting> {
 protected:
  MmditCost() : options(medium(GetParam().qk_norm)), network(options) {
    const Setting s = GetParam();
    network.init(0);
    network.to(s.dtype);
    network.compute = s.dtype;
    network.checkpointing = s.checkpointing;
    if (s.adapters) {
      lora = std::make_unique<LoraSet>(
          network,
          LoraOptions{8,
                      8,
                      {"transformer_blocks.*.attn.to_q", "transformer_blocks.*.attn.to_k",
                       "transformer_blocks.*.attn.to_v", "transformer_blocks.*.attn.to_out.0"}},
          0);
    }
    x = at::randn({s.rows, 16, 32, 32}).requires_grad_(s.input_gradient);
    t = at::full({s.rows}, 500.0);
    text = {at::randn({s.rows, 40, 128}).to(s.dtype), at::randn({s.rows, 64}).to(s.dtype)};
    call = {.image_tokens = 256,
            .text_tokens = 40,
            .bytes = s.dtype == at::kFloat ? 4 : 2,
            .rank = s.adapters ? 8 : 0,
            .input_gradient = s.input_gradient,
            .trained = false,
            .checkpointing = s.checkpointing,
            .batched = s.rows > 1};
  }
  MmditOptions options;
  Mmdit network;
  std::unique_ptr<LoraSet> lora;
  Tensor x, t;
  Conditioning text;
  MmditCall call;
};

TEST_P(MmditCost, PredictsTheBytesOfGraphAndPeak) {
  const Setting s = GetParam();
  const PassCost cost = mmdit_cost(options, call);
  const Bytes bytes = measure([&] { return network.forward(x, t, text); }, x);
  const double rows = static_cast<double>(s.rows);
  expect_near(rows * cost.graph + cost.graph_once, bytes.graph, "graph, " + name_of(s));
  expect_near(rows * (cost.graph + cost.unwind) + cost.graph_once, bytes.peak,
              "peak, " + name_of(s));
}

INSTANTIATE_TEST_SUITE_P(Settings, MmditCost,
                         ::testing::Values(Setting{at::kFloat, true, false, false, false, 4},
                                           Setting{at::kBFloat16, true, false, false, false, 4},
                                           Setting{at::kBFloat16, true, false, false, false, 1},
                                           Setting{at::kBFloat16, false, true, false, false, 4},
                                           Setting{at::kFloat, false, true, false, false, 4},
                                           Setting{at::kBFloat16, true, true, false, false, 4},
                                           Setting{at::kBFloat16, true, false, true, false, 4},
                                           Setting{at::kBFloat16, false, true, true, false, 4},
                                           Setting{at::kBFloat16, true, false, false, true, 4},
                                           Setting{at::kFloat, true, false, false, true, 4}),
                         [](const auto& setting) {
                           auto n = name_of(setting.param);
                           std::replace(n.begin(), n.end(), ' ', '_');
                           return n;
                         });

TEST(NetworkCost, PredictsTheBytesOfAnMmditPassWithoutGradient) {
  const MmditOptions options = medium();
  Mmdit network(options);
  network.init(0);
  network.to(at::kBFloat16);
  network.compute = at::kBFloat16;
  const Tensor x = at::randn({8, 16, 32, 32}), t = at::full({8}, 500.0);
  const Conditioning text{at::randn({8, 40, 128}).to(at::kBFloat16),
                          at::randn({8, 64}).to(at::kBFloat16)};
  const MmditCall call{.image_tokens = 256, .text_tokens = 40, .bytes = 2};
  const Dual dx{x, at::randn_like(x)}, dt{t, at::ones_like(t)};
  expect_near(8 * mmdit_tangent_cost(options, call).idle,
              measure_idle([&] { return network.forward(dx, dt, text).tangent; }), "forward mode");
  // Without them it takes more: a quarter was measured on an Intel Xeon of 2.5 GHz.
  if (!processor().avx512_bf16) GTEST_SKIP() << "this processor has no dot products of bf16";
  expect_near(8 * mmdit_cost(options, call).idle,
              measure_idle([&] { return network.forward(x, t, text); }), "forward");
}

// The sizes of nano, whose blocks run in one call where the processor can.
TEST(NetworkCost, PredictsTheBytesOfANarrowMmdit) {
  const MmditOptions options;
  Mmdit network(options);
  network.init(0);
  network.to(at::kBFloat16);
  network.compute = at::kBFloat16;
  const LoraSet lora(network, LoraOptions{8, 8, {"transformer_blocks.*.attn.to_*"}}, 0);
  const Tensor x = at::randn({16, 3, 32, 32}), t = at::full({16}, 500.0);
  const Conditioning text{at::randn({16, 12, 96}).to(at::kBFloat16),
                          at::randn({16, 96}).to(at::kBFloat16)};
  const MmditCall call{.image_tokens = 64, .text_tokens = 12, .bytes = 2, .rank = 8};
  const PassCost cost = mmdit_cost(options, call);
  const Bytes bytes = measure([&] { return network.forward(x, t, text); }, {});
  expect_near(16 * (cost.graph + cost.unwind) + cost.graph_once, bytes.peak, "peak");
}

TEST(NetworkCost, PredictsTheBytesOfATrainedMmdit) {
  MmditOptions options = medium();
  options.head_dim = 32;
  options.heads = 2;
  options.layers = 2;
  Mmdit network(options);
  network.init(0);
  network.set_requires_grad(true);
  for (const NamedTensor& p : network.parameters())
    p.tensor->mutable_grad() = at::zeros_like(*p.tensor);
  const Tensor x = at::randn({4, 16, 32, 32}), t = at::full({4}, 500.0);
  const Conditioning text{at::randn({4, 40, 128}), at::randn({4, 64})};
  const MmditCall call{.image_tokens = 256, .text_tokens = 40, .bytes = 4, .trained = true};
  expect_near(4 * mmdit_cost(options, call).graph,
              measure([&] { return network.forward(x, t, text); }, {}).graph, "graph");
  const Dual dx{x, at::randn_like(x)}, dt{t, at::ones_like(t)};
  expect_near(4 * mmdit_tangent_cost(options, call).graph,
              measure([&] { return network.forward(dx, dt, text).tangent; }, {}).graph,
              "graph of pairs");
}

TEST(NetworkCost, PredictsTheBytesOfTheAutoencodersDecoder) {
  AutoencoderKlOptions options{
      .widths = {32, 64, 128, 128}, .layers = 2, .groups = 8, .sample_size = 128};
  AutoencoderKl vae(options);
  vae.set_requires_grad(false);
  Tensor z = at::randn({2, 16, 16, 16}).requires_grad_(true);
  for (const bool checkpointing : {false, true}) {
    vae.checkpointing = checkpointing;
    const PassCost cost = vae_decoder_cost(options, 16, 16, checkpointing);
    const Bytes bytes = measure([&] { return vae.decode(z); }, z);
    expect_near(2 * cost.graph, bytes.graph, fmt::format("graph, checkpointing {}", checkpointing));
    expect_near(2 * (cost.graph + cost.unwind), bytes.peak,
                fmt::format("peak, checkpointing {}", checkpointing));
    expect_near(2 * cost.idle, measure_idle([&] { return vae.decode(z.detach()); }),
                "without gradient");
  }
}

TEST(NetworkCost, PredictsTheBytesOfTaesd3) {
  TaesdDecoder taesd;
  taesd.set_requires_grad(false);
  Tensor z = at::randn({2, 16, 8, 8}).requires_grad_(true);
  for (const bool checkpointing : {false, true}) {
    taesd.checkpointing = checkpointing;
    const PassCost cost = taesd_decoder_cost({}, 8, 8, checkpointing);
    const Bytes bytes = measure([&] { return taesd.decode(z); }, z);
    expect_near(2 * cost.graph, bytes.graph, fmt::format("graph, checkpointing {}", checkpointing));
    expect_near(2 * (cost.graph + cost.unwind), bytes.peak,
                fmt::format("peak, checkpointing {}", checkpointing));
    expect_near(2 * cost.idle, measure_idle([&] { return taesd.decode(z.detach()); }),
                "without gradient");
  }
}

TEST(NetworkCost, PredictsTheBytesAndParametersOfTheValueUnet) {
  const MmditNetwork policy(std::make_unique<Mmdit>(medium()));
  const ValueOptions value{.kind = ValueKind::kUnet, .width = 32, .layers = 3};
  const auto net = make_value_network(value, policy, {}, 0);
  EXPECT_EQ(static_cast<double>(net->parameter_count()), unet_value_parameters(value, 16, 64));
  net->set_requires_grad(true);
  for (const NamedTensor& p : net->parameters())
    p.tensor->mutable_grad() = at::zeros_like(*p.tensor);
  const Tensor x = at::randn({4, 16, 32, 32}), t = at::full({4}, 0.5);
  const Conditioning text{at::randn({4, 40, 128}), at::randn({4, 64})};
  expect_near(4 * unet_value_cost(value, 16, 32, 32).graph,
              measure([&] { return net->evaluate(x, t, text); }, {}).graph, "graph");
}

// The numbers of the published configurations; FLOPs counted by hand, matrix products and attention
// of each block, at 1024 and 512 pixels.
TEST(NetworkCost, KnowsTheSizesOfStableDiffusion3) {
  const MmditOptions sd3 = sd3_release("stable-diffusion-3-medium");
  EXPECT_EQ(count_parameters<Mmdit>(sd3) + mmdit_grid(sd3), 2084951104.0);
  EXPECT_EQ(vae_parameters({}), 83819683.0);
  EXPECT_EQ(clip_text_parameters({}), 123650304.0);
  EXPECT_NEAR(mmdit_cost(sd3, {.image_tokens = 4096, .text_tokens = 333, .bytes = 2}).forward,
              8.904e12, 0.02e12);
  EXPECT_NEAR(mmdit_cost(sd3, {.image_tokens = 1024, .text_tokens = 333, .bytes = 2}).forward,
              2.107e12, 0.02e12);
  EXPECT_NEAR(mmdit_cost(sd3, {.image_tokens = 4096, .text_tokens = 333, .bytes = 2}).backward,
              13.24e12, 0.1e12);
  // A Dual forward at 1024 pixels: no matrix of all tokens against all.
  EXPECT_LE(mmdit_tangent_cost(sd3, {.image_tokens = 4096, .text_tokens = 333, .bytes = 2}).idle,
            1.2e9);
  EXPECT_NEAR(vae_decoder_cost({}, 128, 128, false).forward, 10.47e12, 0.2e12);
  EXPECT_NEAR(taesd_decoder_cost({}, 128, 128, false).forward, 0.566e12, 0.02e12);
}

}  // namespace
}  // namespace vggflow
