#include "vggflow/features/feature_networks.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <tuple>

#include "vggflow/networks/vision/conv_case_test.h"
#include "vggflow/networks/vision/inception.h"
#include "vggflow/networks/vision/mobilenet.h"
#include "vggflow/ops/resize.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

using testing::ConvCase;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(FeatureNetworks, AreMadeByNameAndSayWhatTheyAre) {
  const testing::TemporaryFolder folder;
  for (const auto& [name, reference, width] : {std::tuple{"inception-v3", "inception", 2048},
                                               {"inception-v3-tf1", "inception_tf1", 2048},
                                               {"mobilenet-v2", "mobilenet_v2", 1280},
                                               {"efficientnet-lite0", "lite0", 1280}}) {
    const ConvCase weights(reference);
    const auto net = make_feature_network(name, weights.write_weights(folder / "w.safetensors"));
    const Tensor f = net->features(weights.image(16, 24).requires_grad_(true));
    EXPECT_THAT(f.sizes(), ElementsAre(1, width)) << name;
    EXPECT_FALSE(f.requires_grad()) << name;
    EXPECT_EQ(net->name(), name);
    EXPECT_EQ(net->weights_hash().size(), 16u) << name;
  }
}

TEST(FeatureNetworks, OtherWeightsHaveAnotherHash) {
  const testing::TemporaryFolder folder;
  const auto first = make_feature_network(
      "efficientnet-lite0", ConvCase("lite0").write_weights(folder / "a.safetensors"));
  const auto again = make_feature_network(
      "efficientnet-lite0", ConvCase("lite0").write_weights(folder / "b.safetensors"));
  const auto other = make_feature_network(
      "efficientnet-lite0", ConvCase("lite0_timm").write_weights(folder / "c.safetensors"));
  EXPECT_EQ(first->weights_hash(), again->weights_hash());
  EXPECT_NE(first->weights_hash(), other->weights_hash());
}

TEST(FeatureNetworks, MobileNetworksSeeImagesAt224) {
  const testing::TemporaryFolder folder;
  const ConvCase weights("mobilenet_v2");
  const auto file = weights.write_weights(folder / "w.safetensors");
  const Tensor image = weights.image(16, 24),
               large = ops::resize(image, 224, 224, ops::Interpolation::kBilinear);
  EXPECT_LT(testing::relative_error(make_feature_network("mobilenet-v2", file)->features(image),
                                    load_mobilenet_v2(file)->features(large)),
            1e-6);
}

// 33 images are two parts of what is computed at a time.
TEST(FeatureNetworks, LargeSetsAreComputedInPartsWithTheSameResult) {
  const testing::TemporaryFolder folder;
  const auto net = make_feature_network(
      "mobilenet-v2", ConvCase("mobilenet_v2").write_weights(folder / "w.safetensors"));
  const Tensor images = testing::pattern("set", {33, 3, 8, 8}).to(at::kFloat),
               all = net->features(images);
  EXPECT_THAT(all.sizes(), ElementsAre(33, 1280));
  EXPECT_LT(testing::relative_error(all.narrow(0, 31, 2), net->features(images.narrow(0, 31, 2))),
            1e-5);
}

TEST(FeatureNetworks, UnknownNamesListTheKnownOnes) {
  EXPECT_THAT(testing::message_of([] { make_feature_network("inception", "w"); }),
              HasSubstr("[features] unknown network 'inception'; known are clip, "));
  const auto names = feature_network_names();
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
}

TEST(OpenFeatures, TakesTheProjectsOwnByNameAndTheOthersWithAPath) {
  const testing::TemporaryFolder folder;
  const std::filesystem::path models = std::filesystem::path(VGGFLOW_SOURCE_DIR) / "models";
  const OwnFeatures own{models / "judge", models / "emoji-clip"};
  for (const char* name : {"judge", "emoji-clip", "pixels-8x8"})
    EXPECT_EQ(open_features(name, own)->name(), name);
  const auto file = ConvCase("lite0").write_weights(folder / "w.safetensors");
  EXPECT_EQ(open_features("efficientnet-lite0=" + file.string(), own)->name(),
            "efficientnet-lite0");
  EXPECT_THAT(
      testing::message_of([&] { open_features("efficientnet-lite0", own); }),
      HasSubstr(
          "[features] expected the path of efficientnet-lite0's weights: efficientnet-lite0=PATH"));
  EXPECT_THAT(testing::message_of([&] { open_features("lite0=x", own); }),
              HasSubstr("unknown network 'lite0'; known are judge, emoji-clip, pixels-8x8, and "
                        "with a path, clip=PATH, "));
}

}  // namespace
}  // namespace vggflow
