// CLIP's image tower against transformers, open_clip and OpenAI's package: values from
// tools/reference/clip_reference.py.
#include "vggflow/networks/clip/clip_vision.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <filesystem>
#include <map>

#include "vggflow/io/safetensors.h"
#include "vggflow/networks/clip/clip_checkpoint.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/reference.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;
using testing::message_of;

// Of the largest number, whatever its size.
double error(const Tensor& got, const Tensor& want) {
  return ((got - want).abs().max() / want.abs().max()).item<double>();
}

std::filesystem::path clip_folder(const std::string& layout) {
  return testing::models_testdata("clip") / layout;
}

class ClipVisionParity : public ::testing::TestWithParam<std::string> {
 protected:
  Tensor get(const std::string& name) const { return reference_.load(name); }
  std::unique_ptr<ClipVisionModel> tower(at::ScalarType dtype = at::kFloat) const {
    const auto folder = clip_folder(GetParam());
    return make_clip_vision(
        read_clip_checkpoint(GetParam() == "openai" ? folder / "weights.pt" : folder), dtype);
  }
  // H direction for <cotangent, embed>, by reverse mode through the tangent.
  Tensor hessian_product(const ClipVisionModel& net) const {
    const Tensor x = get("pixels").requires_grad_(true);
    const Dual y = net.embed(Dual{x, get("direction")});
    return torch::autograd::grad({(y.tangent * get("cotangent")).sum()}, {x})[0];
  }
  Tensor gradient(const ClipVisionModel& net) const {
    const Tensor x = get("pixels").requires_grad_(true);
    return torch::autograd::grad({net.embed(x)}, {x}, {get("cotangent")})[0];
  }

 private:
  SafetensorsFile reference_{clip_folder(GetParam()) / "reference.safetensors"};
};
INSTANTIATE_TEST_SUITE_P(Layouts, ClipVisionParity,
                         ::testing::Values("transformers_quick", "transformers_gelu",
                                           "transformers_vision", "open_clip", "open_clip_custom",
                                           "openai"));

TEST_P(ClipVisionParity, EmbeddingsAndImageGradientsEqualTheirs) {
  const auto net = tower();
  EXPECT_LT(error(net->embed(get("pixels")), get("image")), 1e-5);
  EXPECT_LT(error(gradient(*net), get("gradient")), 1e-5);
}

TEST_P(ClipVisionParity, TangentsAndHessianProductsEqualTheirs) {
  const auto net = tower();
  const Dual y = net->embed(Dual{get("pixels"), get("direction")});
  EXPECT_LT(error(y.value, get("image")), 1e-5);
  EXPECT_LT(error(y.tangent, get("tangent")), 1e-5);
  EXPECT_LT(error(hessian_product(*net), get("hessian")), 1e-4);
}

TEST_P(ClipVisionParity, RunningLayersAgainChangesNothing) {
  const auto kept = tower(), again = tower();
  again->recompute = true;
  EXPECT_TRUE(at::equal(gradient(*kept), gradient(*again)));
  EXPECT_TRUE(at::equal(hessian_product(*kept), hessian_product(*again)));
  // That they do run again is told by what checkpointing cannot do.
  const auto second = [&](const ClipVisionModel& net) {
    const Tensor x = get("pixels").requires_grad_(true);
    return message_of([&] {
      torch::autograd::grad({net.embed(x).sum()}, {x}, {}, /*retain_graph=*/true,
                            /*create_graph=*/true);
    });
  };
  EXPECT_THAT(second(*again),
              HasSubstr("second derivatives cannot run through a checkpointed block"));
}

// bf16 products have 8 bits; the stream of tokens and the statistics of the norms stay in fp32.
TEST_P(ClipVisionParity, Bf16WeightsGiveTheSameToThreeDigitsAndKeepTheInputsType) {
  const auto net = tower(at::kBFloat16);
  const Tensor y = net->embed(get("pixels")), g = gradient(*net);
  EXPECT_EQ(y.scalar_type(), at::kFloat);
  EXPECT_EQ(g.scalar_type(), at::kFloat);
  EXPECT_EQ(net->tokens(get("pixels")).scalar_type(), at::kFloat);
  const auto apart = [](const Tensor& a, const Tensor& b) {
    return ((a - b).norm() / b.norm()).item<double>();
  };
  EXPECT_LT(apart(y, get("image")), 0.03);
  EXPECT_LT(apart(g, get("gradient")), 0.06);
  EXPECT_LT(apart(net->embed(Dual{get("pixels"), get("direction")}).tangent, get("tangent")), 0.06);
}

TEST(ClipVision, TheReleasedTowersHaveTheirNumbersOfParameters) {
  // As open_clip 3.3 counts the parameters of its visual towers.
  const std::map<std::string, int64_t> counts{
      {"clip-vit-b32", 87849216},      {"clip-vit-b16", 86192640},  {"clip-vit-l14", 303966208},
      {"clip-vit-l14-336", 304293888}, {"clip-vit-h14", 632076800}, {"clip-vit-g14", 1012645632},
      {"clip-vit-bigg14", 1844907264}};
  EXPECT_EQ(clip_vision_presets().size(), counts.size());
  for (const auto& [name, o] : clip_vision_presets()) {
    ClipVisionOptions one = o,
                      two = o;  // a layer's size is a difference, so that no large network is made
    one.layers = 1;
    two.layers = 2;
    const int64_t first = ClipVisionModel(one).parameter_count();
    EXPECT_EQ(first + (o.layers - 1) * (ClipVisionModel(two).parameter_count() - first),
              counts.at(name))
        << name;
  }
}

TEST(ClipVision, RefusesWhatDoesNotFit) {
  const ClipVisionOptions o{.image = 8,
                            .patch = 4,
                            .width = 16,
                            .mlp_width = 16,
                            .layers = 1,
                            .heads = 2,
                            .projection = 4};
  EXPECT_THAT(message_of([&] { ClipVisionModel(o).embed(at::zeros({1, 3, 8, 12})); }),
              HasSubstr("expected pixels (B, 3, 8, 8), got (1, 3, 8, 12)"));
  auto other = o;
  other.heads = 3;
  EXPECT_THAT(message_of([&] { ClipVisionModel net(other); }),
              HasSubstr("a width that the heads divide, got 1 layers, width 16, 3 heads"));
  other = o;
  other.image = 2;
  EXPECT_THAT(message_of([&] { ClipVisionModel net(other); }),
              HasSubstr("expected images of at least one patch, got 2 and 4"));
}

}  // namespace
}  // namespace vggflow
