// TAESD3's architecture, 4 channels wide with random weights, against its restatement in
// tools/reference/vae_reference.py (prefix taesd.).
#include "vggflow/networks/autoencoders/taesd.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cstdlib>
#include <filesystem>

#include "vggflow/core/error.h"
#include "vggflow/io/files.h"
#include "vggflow/ops/random_tensor.h"
#include "vggflow/testing/count_calls.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/reference.h"
#include "vggflow/testing/temporary_folder.h"
#include "vggflow/weights/frozen_weights.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;
using testing::message_of;
using testing::norm_error;
using testing::scaled_error;

const SafetensorsFile& reference() {
  static const SafetensorsFile file(testing::models_testdata("vae_reference.safetensors"));
  return file;
}
Tensor get(const std::string& name) { return reference().load("taesd." + name); }

// Every weight of the reference has its place, and none is left over.
void fill(Module& net, const std::string& side) {
  adopt_weights(net.parameters(),
                testing::weights_under(reference(), "taesd.weights." + side + "."), at::kFloat);
}

constexpr TaesdOptions kNarrow{.latent_channels = 16, .width = 4};

TEST(Taesd, DecodesAsItsRestatement) {
  TaesdDecoder net(kNarrow);
  fill(net, "decoder");
  const Tensor latents = get("latents").requires_grad_(true);
  const Tensor image = net.decode(latents);
  EXPECT_LT(scaled_error(image, get("decoded")), 1e-5);
  EXPECT_LT(
      scaled_error(torch::autograd::grad({image}, {latents}, {get("cotangent")})[0], get("grad")),
      1e-4);
  const Dual dual = net.decode(Dual{get("latents"), get("direction")});
  EXPECT_LT(scaled_error(dual.value, get("decoded")), 1e-5);
  EXPECT_LT(scaled_error(dual.tangent, get("tangent")), 1e-4);
}

TEST(Taesd, CheckpointingRunsEachBlockOnceMoreAndChangesNoGradient) {
  TaesdDecoder net(kNarrow);
  fill(net, "decoder");
  const auto gradients = [&] {
    const Tensor z = get("latents").requires_grad_(true), d = get("direction").requires_grad_(true);
    auto all = torch::autograd::grad({net.decode(z)}, {z}, {get("cotangent")});
    for (const Tensor& g :
         torch::autograd::grad({(net.decode(Dual{z, d}).tangent * get("cotangent")).sum()}, {z, d}))
      all.push_back(g);
    return all;
  };
  const auto convolutions = [&] {
    return testing::count_calls(
        "aten::conv2d", [&] { net.decode(get("latents").requires_grad_(true)).sum().backward(); });
  };
  const auto plain = gradients();
  const int once = convolutions();
  net.checkpointing = true;
  const auto again = gradients();
  constexpr int kOutsideBlocks = 5;  // conv_in, three upsamplers, conv_out
  EXPECT_EQ(convolutions(), 2 * once - kOutsideBlocks);
  ASSERT_EQ(plain.size(), 3u);
  for (size_t i = 0; i < plain.size(); ++i) EXPECT_TRUE(at::equal(plain[i], again[i])) << i;
}

TEST(Taesd, EncodesAsItsRestatement) {
  TaesdEncoder net(kNarrow);
  fill(net, "encoder");
  const Tensor image = get("image").requires_grad_(true), encoded = net.encode(image);
  EXPECT_LT(scaled_error(encoded, get("encoded")), 1e-5);
  EXPECT_LT(scaled_error(torch::autograd::grad({encoded}, {image}, {get("encode_cotangent")})[0],
                         get("encode_grad")),
            1e-4);
}

TEST(Taesd, Bf16ErrsNoMoreThanItsRestatementDoes) {
  TaesdDecoder decoder(kNarrow);
  TaesdEncoder encoder(kNarrow);
  fill(decoder, "decoder");
  fill(encoder, "encoder");
  decoder.to(at::kBFloat16);
  encoder.to(at::kBFloat16);
  const auto expect = [](const Tensor& got, const std::string& name) {
    ASSERT_EQ(got.scalar_type(), at::kBFloat16);
    const double theirs = norm_error(get(name + "_bf16"), get(name));
    EXPECT_LT(norm_error(got, get(name)), 1.5 * theirs) << name;
    EXPECT_LT(theirs, name == "grad" ? 0.15 : 0.02)
        << name;  // a rounding that flips a relu changes a gradient by much
  };
  const Tensor latents = get("latents").to(at::kBFloat16).requires_grad_(true),
               decoded = decoder.decode(latents);
  expect(decoded, "decoded");
  expect(torch::autograd::grad({decoded}, {latents}, {get("cotangent").to(at::kBFloat16)})[0],
         "grad");
  expect(encoder.encode(get("image").to(at::kBFloat16)), "encoded");
}

// TAESD3's size, random: the own files, the same saved by torch, diffusers' folder, and org/name.
class TaesdFiles : public ::testing::Test {
 protected:
  TaesdFiles() {
    uint64_t id = 0;
    for (const NamedTensor& p : net.parameters())
      *p.tensor = 0.1 * keyed_normal(2, Purpose::kTest, 0, id++, 1, p.tensor->sizes()).squeeze(0);
  }
  TensorList named(const std::string& prefix, int64_t shift) {
    TensorList out;
    for (const NamedTensor& p : net.parameters()) {
      const size_t dot = p.name.find('.');
      out.emplace_back(
          prefix + std::to_string(std::stoll(p.name.substr(0, dot)) + shift) + p.name.substr(dot),
          *p.tensor);
    }
    return out;
  }
  void expect_decodes(const std::filesystem::path& place) {
    const Tensor latents = keyed_normal(3, Purpose::kTest, 0, 0, 1, {16, 2, 2});
    EXPECT_TRUE(
        at::equal(TaesdDecoder::load(taesd_folder(place))->decode(latents), net.decode(latents)))
        << place;
  }
  TaesdDecoder net;
  const testing::TemporaryFolder folder;
};

TEST_F(TaesdFiles, AreReadAsPublishedByTheirAuthorAndByDiffusers) {
  write_safetensors(folder / "taesd3_decoder.safetensors", named("", 0));
  expect_decodes(folder.path());
  expect_decodes(folder / "taesd3_decoder.safetensors");
  const auto diffusers = folder / "hub/models--org--taesd3/snapshots/abc";
  std::filesystem::create_directories(diffusers);
  TensorList both = named("decoder.layers.", -1);
  both.emplace_back("encoder.layers.0.weight", at::ones({1}));
  write_safetensors(diffusers / "diffusion_pytorch_model.safetensors", both);
  expect_decodes(diffusers);
  std::filesystem::create_directories(folder / "hub/models--org--taesd3/refs");
  write_text(folder / "hub/models--org--taesd3/refs/main", "abc");
  ::setenv("HF_HUB_CACHE", (folder / "hub").c_str(), 1);
  expect_decodes("org/taesd3");
  ::unsetenv("HF_HUB_CACHE");
}

TEST_F(TaesdFiles, ThatAreNotThereAreNamed) {
  EXPECT_THAT(
      message_of([&] { TaesdDecoder::load(folder.path()); }),
      HasSubstr("holds no TAESD3: looked for taesd3_decoder.safetensors, taesd3_decoder.pth "
                "and diffusers'"));
  EXPECT_THAT(message_of([&] { taesd_folder((folder / "none").string()); }),
              HasSubstr("is no folder and no repository id"));
}

TEST(Taesd, RefusesShapesThatDoNotFit) {
  EXPECT_THAT(message_of([] { TaesdDecoder(kNarrow).decode(at::zeros({1, 4, 2, 2})); }),
              HasSubstr("[taesd] expected latents (B, 16, h, w), got (1, 4, 2, 2)"));
  EXPECT_THAT(message_of([] { TaesdEncoder(kNarrow).encode(at::zeros({1, 3, 20, 16})); }),
              HasSubstr("H and W multiples of 8, got (1, 3, 20, 16)"));
}

}  // namespace
}  // namespace vggflow
