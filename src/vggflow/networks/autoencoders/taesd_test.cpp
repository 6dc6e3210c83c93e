// TAESD3's architecture, 4 channels wide with random weights, against its restatement in
// tools/reference/vae_reference.py (prefix taesd.).
#include "vggflow/networks/autoencoders/taesd.h"

#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "vggflow/core/error.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/reference.h"
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

TEST(Taesd, RefusesShapesThatDoNotFit) {
  EXPECT_THAT(message_of([] { TaesdDecoder(kNarrow).decode(at::zeros({1, 4, 2, 2})); }),
              HasSubstr("[taesd] expected latents (B, 16, h, w), got (1, 4, 2, 2)"));
  EXPECT_THAT(message_of([] { TaesdEncoder(kNarrow).encode(at::zeros({1, 3, 20, 16})); }),
              HasSubstr("H and W multiples of 8, got (1, 3, 20, 16)"));
}

}  // namespace
}  // namespace vggflow
