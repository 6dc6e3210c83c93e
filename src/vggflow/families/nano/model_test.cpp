// The nano model whose states are latents: TAESD3 decodes them, with weights that are not in its
// folder.
#include "vggflow/families/nano/model.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cstdlib>

#include "vggflow/families/open_model.h"
#include "vggflow/networks/autoencoders/taesd.h"
#include "vggflow/networks/autoencoders/taesd_fixture_test.h"
#include "vggflow/networks/model_folder.h"
#include "vggflow/testing/count_calls.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/pattern.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;
using testing::message_of;

// A tiny model on 16x2x2 latents that was saved after its decoder was opened.
struct Latent {
  Latent() {
    options.text_width = 8;
    options.decoder = NanoDecoder::kTaesd3;
    options.network = {.sample_size = 2,
                       .channels = 16,
                       .patch_size = 2,
                       .layers = 1,
                       .heads = 2,
                       .head_dim = 8,
                       .context_dim = 8,
                       .pooled_dim = 8,
                       .pos_embed_max = 1};
    NanoModel model(options, Vocabulary({"a cat"}, 3));
    model.init(1);
    model.open_decoder(taesd.string());
    model.save(saved, {});
  }
  ModelOptions open(const std::filesystem::path& decoder) const {
    ModelOptions o;
    o.model = saved.string();
    o.precision = Precision::kFp32;
    o.sd3.taesd = decoder.string();
    return o;
  }
  testing::TemporaryFolder folder;
  std::filesystem::path saved = folder / "model",
                        taesd = testing::write_taesd(folder / "taesd3", "a");
  NanoOptions options;
};

TEST(NanoWithADecoder, ItsImagesAreTaesdsOfItsStates) {
  const Latent l;
  const auto model = open_flow_model(l.open(l.taesd));
  EXPECT_EQ(model->state_shape(), (std::vector<int64_t>{16, 2, 2}));
  const Tensor x = testing::pattern("x", {2, 16, 2, 2}).to(at::kFloat) * 4 - 2,
               direction = testing::pattern("d", {2, 16, 2, 2}).to(at::kFloat);
  const auto decoder = TaesdDecoder::load(l.taesd);
  EXPECT_EQ(model->decode(x).sizes(), (std::vector<int64_t>{2, 3, 16, 16}));
  EXPECT_TRUE(at::equal(model->decode(x), decoder->decode(x) * 2 - 1));
  EXPECT_TRUE(at::equal(model->decode(Dual{x, direction}).tangent,
                        decoder->decode(Dual{x, direction}).tangent * 2));
  EXPECT_THAT(model->description(), HasSubstr("decoded by TAESD3 " + weights_hash(*decoder)));
}

TEST(NanoWithADecoder, CheckpointingIsOfTheDecoderToo) {
  const Latent l;
  const auto convolutions = [&](bool checkpointing) {
    ModelOptions o = l.open(l.taesd);
    o.checkpointing = checkpointing;
    const auto model = open_flow_model(o);
    return testing::count_calls("aten::conv2d", [&] {
      model->decode(at::ones({1, 16, 2, 2}).requires_grad_(true)).sum().backward();
    });
  };
  EXPECT_GT(convolutions(true), convolutions(false));
}

// In bf16 an image is off by per cents, and its gradient points where the exact one does: a cosine
// of 0.990 with these weights, since rounding decides for the relus beside their kink.
TEST(NanoWithADecoder, InBf16ImagesAndGradientsAreNearThoseInFp32) {
  const Latent l;
  ModelOptions low = l.open(l.taesd);
  low.precision = Precision::kBf16;
  const auto exact = open_flow_model(l.open(l.taesd)), rounded = open_flow_model(low);
  const Tensor x = (testing::pattern("x", {2, 16, 2, 2}).to(at::kFloat) * 4 - 2)
                       .requires_grad_(true),
               cotangent = testing::pattern("c", {2, 3, 16, 16}).to(at::kFloat);
  const Tensor want = exact->decode(x), got = rounded->decode(x);
  EXPECT_EQ(got.scalar_type(), at::kFloat);
  EXPECT_LT(((got - want).norm() / want.norm()).item<double>(), 0.02);
  const Tensor g = torch::autograd::grad({want}, {x}, {cotangent})[0],
               h = torch::autograd::grad({got}, {x}, {cotangent})[0];
  EXPECT_GT(((g * h).sum() / (g.norm() * h.norm())).item<double>(), 0.98);
}

TEST(NanoWithADecoder, RefusesOtherWeightsThanItWasTrainedFor) {
  const Latent l;
  const auto other = testing::write_taesd(l.folder / "other", "b");
  EXPECT_THAT(message_of([&] { open_flow_model(l.open(other)); }),
              HasSubstr("the model was trained for a TAESD3 decoder with the hash " +
                        weights_hash(*TaesdDecoder::load(l.taesd)) + ", but that in"));
}

TEST(NanoWithADecoder, SaysHowToGiveOneThatIsMissing) {
  const Latent l;
  const char* before = std::getenv("VGGFLOW_ASSETS");
  const std::string kept = before ? before : "";
  unsetenv("VGGFLOW_ASSETS");
  EXPECT_THAT(message_of([&] { open_flow_model(l.open("")); }),
              HasSubstr("[taesd] expected the folder of TAESD3, got none: pass it (sd3.taesd=DIR"));
  setenv("VGGFLOW_ASSETS", l.folder.path().c_str(), 1);
  EXPECT_EQ(taesd_folder(""), l.taesd);
  EXPECT_EQ(message_of([&] { open_flow_model(l.open("")); }), "no error");
  before ? setenv("VGGFLOW_ASSETS", kept.c_str(), 1) : unsetenv("VGGFLOW_ASSETS");
  const auto unopened = NanoModel::load(l.saved, at::kFloat);
  EXPECT_THAT(message_of([&] { unopened->decode(at::zeros({1, 16, 2, 2})); }),
              HasSubstr("the decoder of this model is not open"));
}

TEST(NanoWithADecoder, RefusesANetworkOfOtherChannels) {
  Latent l;
  l.options.network.channels = 4;
  NanoModel model(l.options, Vocabulary({"a cat"}, 3));
  EXPECT_THAT(message_of([&] { model.open_decoder(l.taesd.string()); }),
              HasSubstr("TAESD3 reads 16 latent channels, the network has 4"));
}

}  // namespace
}  // namespace vggflow
