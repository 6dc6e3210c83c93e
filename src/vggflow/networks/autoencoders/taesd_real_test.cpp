// TAESD3 with its real weights: values and PSNR that tools/reference/vae_reference.py taesd3 wrote
// and printed.
#include <ATen/ops/log10.h>
#include <ATen/ops/square.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cstdlib>

#include "vggflow/io/safetensors.h"
#include "vggflow/networks/autoencoders/taesd.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/pattern.h"
#include "vggflow/testing/reference.h"

namespace vggflow {
namespace {

using testing::norm_error;
using testing::scaled_error;

class TaesdReal : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* assets = std::getenv("VGGFLOW_ASSETS");
    if (!assets)
      GTEST_SKIP() << "left out: TAESD3 with real weights, because VGGFLOW_ASSETS is not set";
    decoder = TaesdDecoder::load(std::filesystem::path(assets) / "taesd3");
    encoder = TaesdEncoder::load(std::filesystem::path(assets) / "taesd3");
  }
  static Tensor get(const std::string& name) {
    static const SafetensorsFile file(testing::models_testdata("taesd3_reference.safetensors"));
    return file.load(name);
  }
  std::unique_ptr<TaesdDecoder> decoder;
  std::unique_ptr<TaesdEncoder> encoder;
};

TEST_F(TaesdReal, EqualsItsRestatement) {
  const Tensor latents = get("latents").requires_grad_(true);
  const Tensor image = decoder->decode(latents);
  EXPECT_LT(scaled_error(image, get("decoded")), 1e-4);
  EXPECT_LT(
      scaled_error(torch::autograd::grad({image}, {latents}, {get("cotangent")})[0], get("grad")),
      1e-3);
  EXPECT_LT(
      scaled_error(decoder->decode(Dual{get("latents"), get("direction")}).tangent, get("tangent")),
      1e-3);
  const Tensor picture = get("image").requires_grad_(true), encoded = encoder->encode(picture);
  EXPECT_LT(scaled_error(encoded, get("encoded")), 1e-4);
  EXPECT_LT(scaled_error(torch::autograd::grad({encoded}, {picture}, {get("encode_cotangent")})[0],
                         get("encode_grad")),
            1e-3);
}

TEST_F(TaesdReal, Bf16ErrsNoMoreThanItsRestatementDoes) {
  decoder->to(at::kBFloat16);
  const double theirs = norm_error(get("decoded_bf16"), get("decoded"));
  EXPECT_LT(norm_error(decoder->decode(get("latents").to(at::kBFloat16)), get("decoded")),
            1.5 * theirs);
  EXPECT_LT(theirs, 0.01);
}

// Photographs (100 of CIFAR-10's, upsampled to 64 pixels) gave 33.7 dB in the mean with the
// script's psnr command.
TEST_F(TaesdReal, RoundTripsSmoothImages) {
  const Tensor images = testing::synthetic_images(at::kFloat);
  const Tensor back = decoder->decode(encoder->encode(images)).clamp(0, 1);
  const Tensor psnr = -10 * at::log10(at::square(back - images).mean({1, 2, 3}));
  const double printed[] = {40.20, 40.07, 37.25, 33.91};
  for (int k = 0; k < 4; ++k) EXPECT_NEAR(psnr[k].item<double>(), printed[k], 0.02) << k;
}

}  // namespace
}  // namespace vggflow
