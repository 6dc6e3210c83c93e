// NIMA's MobileNetV1, MobileNetV2 and EfficientNet-Lite0 in full size against timm, torchvision and
// efficientnet-lite-pytorch (tools/reference/conv_reference.py random), in every layout of weights.
#include "vggflow/networks/vision/mobilenet.h"

#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gmock/gmock.h>

#include <utility>

#include "vggflow/networks/vision/conv_case_test.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

using testing::ConvCase;
using ::testing::HasSubstr;
using testing::message_of;

struct LoadCase {
  const char* name;
  std::unique_ptr<MobileNet> (*load)(const std::filesystem::path&, const MobileNetOptions&);
  MobileNetOptions options;
  int64_t height, width;
  double gradient_fp32 = 1e-4;
};

const LoadCase kCases[] = {
    {"nima", load_nima, mobilenet_v1_options(10), 40, 56},
    {"mobilenet_v2", load_mobilenet_v2, mobilenet_v2_options(1001), 40, 56},
    {"mobilenet_v2_tv", load_mobilenet_v2, mobilenet_v2_options(1001), 40, 56},
    {"lite0", load_efficientnet_lite0, efficientnet_lite0_options(), 64, 64},
    {"lite0_timm", load_efficientnet_lite0, efficientnet_lite0_options(), 40, 56,
     /*gradient_fp32=*/1e-3}};  // one unit beside its kink: 8e-4

TEST(MobileNet, EqualsTheReferencesInEveryLayout) {
  const testing::TemporaryFolder folder;
  for (const LoadCase& c : kCases) {
    const ConvCase reference(c.name);
    const auto file = reference.write_weights(folder / "weights.safetensors");
    MobileNetOptions exact = c.options;
    exact.dtype = at::kDouble;
    const auto wide = c.load(file, exact), net = c.load(file, c.options);
    reference.expect_equal([&](const auto& x) { return wide->features(x); },
                           reference.image(c.height, c.width, at::kDouble));
    const Tensor image = reference.image(c.height, c.width);
    reference.expect_equal([&](const auto& x) { return net->features(x); }, image, c.gradient_fp32);
    const Tensor logits = net->logits(image).narrow(1, 0, 10);
    EXPECT_LT(ConvCase::of_largest(logits, reference.get("logits")), 1e-4) << c.name;
    EXPECT_LT(
        ConvCase::of_largest(net->logits(Dual{image, at::zeros_like(image)}).value.narrow(1, 0, 10),
                             reference.get("logits")),
        1e-4)
        << c.name;
  }
}

TEST(MobileNet, TheLayoutDecidesPaddingClassesAndNormalisation) {
  const testing::TemporaryFolder folder;
  const auto numbered =
      load_mobilenet_v2(ConvCase("mobilenet_v2").write_weights(folder / "a.safetensors"));
  const auto torchvision =
      load_mobilenet_v2(ConvCase("mobilenet_v2_tv").write_weights(folder / "b.safetensors"));
  EXPECT_EQ(numbered->options.classes, 1001);
  EXPECT_EQ(torchvision->options.classes, 1000);
  EXPECT_EQ(torchvision->stem.shape.padding, ConvPadding::kSymmetric);
  EXPECT_NE(numbered->options.hash, torchvision->options.hash);
}

TEST(MobileNet, RefusesWhatIsNotItsWeights) {
  const testing::TemporaryFolder folder;
  const auto file = folder / "w.safetensors";
  ConvCase("mobilenet_v2").write_weights(file);
  EXPECT_THAT(message_of([&] { load_nima(file); }),
              HasSubstr("'layers.2.weight' of shape (64, 32, 1, 1) has shape (16, 32, 1, 1)"));
  EXPECT_THAT(message_of([&] { load_nima(file); }), HasSubstr("more"));
  EXPECT_THAT(message_of([&] { load_efficientnet_lite0(file); }),
              HasSubstr("[efficientnet_lite0] expected '_conv_stem.weight'"));
  ConvCase("lite0").write_weights(file);
  EXPECT_THAT(message_of([&] { load_mobilenet_v2(file); }),
              HasSubstr("[mobilenet_v2] expected 'layers.0.weight' or torchvision's"));
  TensorList some{{"_conv_stem.weight", at::zeros({32, 3, 3, 3})}, {"extra", at::zeros({1})}};
  write_safetensors(file, some);
  const std::string said = message_of([&] { load_efficientnet_lite0(file); });
  EXPECT_THAT(said, HasSubstr("'_bn0.weight' of shape (32) is missing"));
  EXPECT_THAT(
      message_of([] { MobileNet(mobilenet_v1_options(10)).features(at::zeros({3, 8, 8})); }),
      HasSubstr("expected images (B, 3, H, W), got (3, 8, 8)"));
}

// A tensor that no layer takes means another network, even if all that is needed is there.
TEST(MobileNet, RefusesTensorsThatAreLeftOver) {
  const testing::TemporaryFolder folder;
  const auto file = folder / "w.safetensors";
  MobileNetOptions tiny{.stem = 4, .stages = {{0, 8, 1, 2}}, .head = 0, .classes = 10};
  TensorList tensors;
  for (const auto& [name, shape] :
       std::vector<std::pair<std::string, std::vector<int64_t>>>{{"layers.0", {4, 3, 3, 3}},
                                                                 {"layers.1", {4, 1, 3, 3}},
                                                                 {"layers.2", {8, 4, 1, 1}},
                                                                 {"layers.3", {10, 8}}}) {
    tensors.emplace_back(name + ".weight", at::zeros(shape));
    tensors.emplace_back(name + ".bias", at::zeros({shape[0]}));
  }
  write_safetensors(file, tensors);
  EXPECT_EQ(load_nima(file, tiny)->logits(at::zeros({1, 3, 8, 8})).size(1), 10);
  tensors.emplace_back("layers.4.weight", at::zeros({1}));
  write_safetensors(file, tensors);
  EXPECT_THAT(message_of([&] { load_nima(file, tiny); }),
              HasSubstr("'layers.4.weight' is not of this network"));
}

}  // namespace
}  // namespace vggflow
