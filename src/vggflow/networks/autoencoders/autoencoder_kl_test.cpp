// AutoencoderKL against diffusers: values, gradients and directional derivative from
// tools/reference/vae_reference.py (prefix kl.).
#include "vggflow/networks/autoencoders/autoencoder_kl.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "vggflow/core/error.h"
#include "vggflow/io/files.h"
#include "vggflow/testing/count_calls.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/reference.h"
#include "vggflow/testing/temporary_folder.h"
#include "vggflow/weights/frozen_weights.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using testing::norm_error;
using testing::scaled_error;

const SafetensorsFile& reference() {
  static const SafetensorsFile file(testing::models_testdata("vae_reference.safetensors"));
  return file;
}
Tensor get(const std::string& name) { return reference().load("kl." + name); }
const std::string kWeights = "kl.weights.";
AutoencoderKlOptions tiny() {
  AutoencoderKlOptions o;
  o.latent_channels = 4;
  o.widths = {4, 8, 8, 8};
  o.groups = 2;
  o.sample_size = 32;
  return o;
}

class AutoencoderKlParity : public ::testing::Test {
 protected:
  AutoencoderKlParity() : vae(tiny()) {
    // One error lists every name and shape that diffusers has and this network has not, and the
    // other way round.
    adopt_weights(vae.parameters(), testing::weights_under(reference(), kWeights), at::kFloat);
  }
  AutoencoderKl vae;
};

TEST_F(AutoencoderKlParity, DecodesAsDiffusers) {
  const Tensor latents = get("latents").requires_grad_(true);
  const Tensor image = vae.decode(latents);
  EXPECT_LT(scaled_error(image, get("decoded")), 1e-4);
  EXPECT_LT(
      scaled_error(torch::autograd::grad({image}, {latents}, {get("cotangent")})[0], get("grad")),
      1e-3);
}

TEST_F(AutoencoderKlParity, ItsTangentIsThatOfTorchFuncJvp) {
  const Dual image = vae.decode(Dual{get("latents"), get("direction")});
  EXPECT_LT(scaled_error(image.value, get("decoded")), 1e-4);
  EXPECT_LT(scaled_error(image.tangent, get("tangent")), 1e-3);
}

TEST_F(AutoencoderKlParity, EncodesAsDiffusers) {
  const VaePosterior posterior = vae.posterior(get("image"));
  EXPECT_LT(scaled_error(posterior.mean, get("mean")), 1e-4);
  EXPECT_LT(scaled_error(posterior.logvar, get("logvar")), 1e-4);
  const Tensor image = get("image").requires_grad_(true), encoded = vae.encode(image);
  EXPECT_LT(scaled_error(encoded, get("encoded")), 1e-4);
  EXPECT_LT(scaled_error(torch::autograd::grad({encoded}, {image}, {get("encode_cotangent")})[0],
                         get("encode_grad")),
            1e-3);
}

TEST_F(AutoencoderKlParity, Bf16ErrsNoMoreThanDiffusersDoes) {
  vae.to(at::kBFloat16);
  const Tensor latents = get("latents").to(at::kBFloat16).requires_grad_(true);
  const auto expect = [](const Tensor& got, const std::string& name) {
    ASSERT_EQ(got.scalar_type(), at::kBFloat16);
    const double theirs = norm_error(get(name + "_bf16"), get(name));
    EXPECT_LT(norm_error(got, get(name)), 1.5 * theirs) << name;
    EXPECT_LT(theirs, name == "grad" ? 0.05 : 0.02) << name;
  };
  const Tensor decoded = vae.decode(latents);
  expect(decoded, "decoded");
  expect(torch::autograd::grad({decoded}, {latents}, {get("cotangent").to(at::kBFloat16)})[0],
         "grad");
  expect(vae.decode(Dual{latents, latents}).value, "decoded");
  expect(vae.encode(get("image").to(at::kBFloat16)), "encoded");
}

TEST_F(AutoencoderKlParity, TilesAreBlendedAsDiffusersDoes) {
  const Tensor wide = get("wide");
  const Tensor tiled = vae.decode_tiled(wide);
  EXPECT_EQ(tiled.sizes(), (std::vector<int64_t>{1, 3, 72, 56}));
  EXPECT_LT(scaled_error(tiled, get("tiled")), 1e-4);
  EXPECT_GT(scaled_error(vae.decode(wide), get("tiled")),
            1e-2);  // tiling changes the result, so the above is no accident
  EXPECT_TRUE(at::equal(vae.decode_tiled(get("latents")), vae.decode(get("latents"))));
}

TEST_F(AutoencoderKlParity, TangentsOfTilesAreDirectionalDerivatives) {
  vae.to(at::kDouble);
  const Tensor z = get("wide").to(at::kDouble);
  const auto error = testing::tangent_error(
      [&](const std::vector<Tensor>& v) { return vae.decode_tiled(v[0]); },
      [&](const std::vector<Dual>& v) { return vae.decode_tiled(v[0]); }, {z});
  EXPECT_LT(error, 1e-6);
}

TEST_F(AutoencoderKlParity, CheckpointingChangesNoGradient) {
  const auto gradients = [&](bool checkpointing) {
    vae.checkpointing = checkpointing;
    const Tensor latents = get("latents").requires_grad_(true),
                 direction = get("direction").requires_grad_(true);
    const Dual image = vae.decode(Dual{latents, direction});
    auto all = torch::autograd::grad({vae.decode(latents)}, {latents}, {get("cotangent")});
    for (const Tensor& g :
         torch::autograd::grad({(image.tangent * get("cotangent")).sum()}, {latents, direction}))
      all.push_back(g);
    return all;
  };
  const auto plain = gradients(false), again = gradients(true);
  ASSERT_EQ(plain.size(), 3u);
  for (size_t i = 0; i < plain.size(); ++i) EXPECT_TRUE(at::equal(plain[i], again[i])) << i;
}

TEST_F(AutoencoderKlParity, CheckpointingRunsEachBlockOnceMore) {
  const auto convolutions = [&](bool gradient) {
    return testing::count_calls("aten::conv2d", [&] {
      const Tensor image = vae.decode(get("latents").requires_grad_(gradient));
      if (gradient) image.sum().backward();
    });
  };
  constexpr int kOutsideBlocks = 5;  // conv_in, three upsamplers, conv_out
  const int once = convolutions(false);
  EXPECT_EQ(convolutions(true), once);
  vae.checkpointing = true;
  EXPECT_EQ(convolutions(false), once);
  EXPECT_EQ(convolutions(true), 2 * once - kOutsideBlocks);
}

TEST_F(AutoencoderKlParity, RefusesShapesThatDoNotFit) {
  EXPECT_THAT(message_of([&] { vae.decode(at::zeros({1, 16, 4, 4})); }),
              HasSubstr("[autoencoder_kl] expected latents (B, 4, h, w), got (1, 16, 4, 4)"));
  EXPECT_THAT(message_of([&] { vae.encode(at::zeros({1, 3, 12, 16})); }),
              HasSubstr("H and W multiples of 8, got (1, 3, 12, 16)"));
}

// A folder as diffusers writes it: config.json and the weights.
TEST_F(AutoencoderKlParity, LoadsAFolderOfDiffusers) {
  const testing::TemporaryFolder scratch;
  const fs::path& folder = scratch.path();
  TensorList tensors;
  for (const NamedTensor& p : vae.parameters()) tensors.emplace_back(p.name, *p.tensor);
  write_safetensors(folder / "diffusion_pytorch_model.safetensors", tensors);
  const std::string config =
      R"({"_class_name":"AutoencoderKL","act_fn":"silu","block_out_channels":[4,8,8,8],"in_channels":3,"out_channels":3,
      "latent_channels":4,"layers_per_block":2,"norm_num_groups":2,"sample_size":32,"scaling_factor":1.5305,"shift_factor":0.0609,"latents_mean":null,
      "force_upcast":true,"use_quant_conv":false,"use_post_quant_conv":false)";
  write_text(folder / "config.json", config + "}");
  EXPECT_TRUE(
      at::equal(AutoencoderKl::load(folder)->decode(get("latents")), vae.decode(get("latents"))));
  write_text(
      folder / "config.json",
      config +
          R"(,"mid_block_add_attention":false,"act_fn":"relu","layers_per_block":"two","use_quant_conv":true})");
  EXPECT_THAT(message_of([&] { AutoencoderKl::load(folder); }),
              AllOf(HasSubstr("describes a network that is not SD3's"),
                    HasSubstr("mid_block_add_attention is false, expected true"),
                    HasSubstr("act_fn is \"relu\", expected \"silu\""),
                    HasSubstr("layers_per_block is \"two\", which has the wrong type"),
                    HasSubstr("use_quant_conv is not false")));
  write_text(folder / "config.json", "{}");
  EXPECT_THAT(message_of([&] { AutoencoderKl::load(folder); }),
              HasSubstr("use_post_quant_conv is not false"));
}

TEST(AutoencoderKl, HasTheSizeOfStableDiffusion3s) {
  EXPECT_EQ(AutoencoderKl(AutoencoderKlOptions{}).parameter_count(), 83819683);
}

}  // namespace
}  // namespace vggflow
