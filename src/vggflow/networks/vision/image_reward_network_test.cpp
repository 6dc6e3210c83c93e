// ImageReward's network against the image-reward package on random weights: values from
// tools/reference/image_reward_reference.py.
#include "vggflow/networks/vision/image_reward_network.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <string>

#include "vggflow/core/error.h"
#include "vggflow/io/model_files.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/reference.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;
using testing::message_of;
using testing::relative_error;
using testing::tangent_error;

const std::filesystem::path& reference_folder() {
  static const std::filesystem::path folder = testing::models_testdata("image_reward");
  return folder;
}

Tensor get(const std::string& name) {
  return SafetensorsFile(reference_folder() / "reference.safetensors").load(name);
}

ImageRewardOptions tiny_options() {
  return {.vision = {.image = 32, .patch = 8, .width = 16, .layers = 2, .heads = 4},
          .text = {.vocabulary = 31,
                   .width = 24,
                   .mlp_width = 40,
                   .layers = 2,
                   .heads = 3,
                   .positions = 40,
                   .image_width = 16},
          .mlp = {12, 10, 8, 6}};
}

std::unique_ptr<ImageRewardNetwork> tiny_network() {
  return ImageRewardNetwork::load(reference_folder() / "ImageReward.pt", tiny_options());
}

TextBatch texts() { return {get("ids"), get("mask")}; }

TEST(ImageRewardNetwork, TheTowersTokensEqualThePackage) {
  EXPECT_LT(relative_error(tiny_network()->visual_encoder.forward(get("images")), get("tokens")),
            1e-5);
}

TEST(ImageRewardNetwork, ScoresAndImageGradientsEqualThePackage) {
  const auto network = tiny_network();
  const Tensor images = get("images").requires_grad_(true);
  const Tensor scores = network->score(texts(), images);
  EXPECT_LT(relative_error(scores, get("scores")), 1e-5);
  EXPECT_LT(relative_error(torch::autograd::grad({scores.sum()}, {images})[0], get("gradient")),
            1e-5);
  EXPECT_GT(get("gradient").abs().max().item<double>(), 0.1);
}

TEST(ImageRewardNetwork, TangentsEqualCentralDifferences) {
  const auto network = tiny_network();
  EXPECT_LT(
      tangent_error([&](const std::vector<Tensor>& v) { return network->score(texts(), v[0]); },
                    [&](const std::vector<Dual>& v) { return network->score(texts(), v[0]); },
                    {get("images").to(at::kDouble)}),
      1e-7);
}

TEST(ImageRewardNetwork, PaddingChangesNothing) {
  const auto network = tiny_network();
  const Tensor images = get("images").narrow(0, 0, 1);
  const auto cut = [](const Tensor& x, int64_t length) {
    return x.narrow(0, 0, 1).narrow(1, 0, length);
  };
  const int64_t length = get("mask")[0].sum().item<int64_t>();
  ASSERT_LT(length, 35);
  const TextBatch all = texts();
  const Tensor padded = network->score({cut(all.ids, 35), cut(all.mask, 35)}, images);
  EXPECT_LT(
      relative_error(network->score({cut(all.ids, length), cut(all.mask, length)}, images), padded),
      1e-6);
  const Tensor first = at::arange(length).eq(0).to(at::kLong).unsqueeze(0);
  EXPECT_GT(relative_error(network->score({cut(all.ids, length), first}, images), padded), 1e-3)
      << "tokens that the mask hides are not seen";
}

TEST(ImageRewardNetwork, TheDefaultsAreTheReleasedSizes) {
  const ImageRewardOptions o;
  EXPECT_EQ(o.vision.tokens(), 197);
  // BERT-base without pooler and token types, of 30,524 words and 512 places, and twelve attentions
  // to 1024 channels of image.
  const int64_t attention = 2 * (768 * 768 + 768) + 2 * (1024 * 768 + 768) + 2 * 768;
  EXPECT_EQ(BlipTextEncoder(o.text).parameter_count(), 108'891'648 + 12 * attention);
}

TEST(ImageRewardNetwork, RefusesFilesThatLackWeightsAndPassesOverTheOthers) {
  const testing::TemporaryFolder folder;
  TensorList all;
  for (const auto& [name, tensor] : open_weights(reference_folder() / "ImageReward.pt")) {
    if (name.find("position_ids") == std::string::npos) all.emplace_back(name, tensor);
  }
  all.emplace_back("blip.image_queue", at::zeros({3}));
  write_safetensors(folder / "more.safetensors", all);
  EXPECT_LT(relative_error(ImageRewardNetwork::load(folder / "more.safetensors", tiny_options())
                               ->score(texts(), get("images")),
                           get("scores")),
            1e-5);
  std::erase_if(all, [](const auto& entry) { return entry.first == "mlp.layers.7.bias"; });
  write_safetensors(folder / "less.safetensors", all);
  EXPECT_THAT(
      message_of([&] { ImageRewardNetwork::load(folder / "less.safetensors", tiny_options()); }),
      HasSubstr("mlp.layers.7.bias"));
}

TEST(ImageRewardNetwork, RefusesTextsThatDoNotFitTheImages) {
  const auto network = tiny_network();
  EXPECT_THAT(message_of([&] { network->score(texts(), get("images").narrow(0, 0, 2)); }),
              HasSubstr("[blip_text] expected image tokens (4, N, 16), got (2, 17, 16)"));
  EXPECT_THAT(message_of([&] {
                network->score({at::zeros({1, 41}, at::kLong), at::ones({1, 41})}, get("images"));
              }),
              HasSubstr("T from 1 to 40"));
}

}  // namespace
}  // namespace vggflow
