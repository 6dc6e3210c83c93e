// Features of sets of images by DINO and DreamSim: the reference values are those of
// dreamsim_test.cpp and vit_test.cpp.
#include "vggflow/features/vit_features.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "vggflow/core/error.h"
#include "vggflow/io/model_files.h"
#include "vggflow/ops/resize.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/reference.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::message_of;
using testing::random_double;
using testing::relative_error;

const fs::path kFolder = testing::models_testdata("dreamsim");
const fs::path kDino = kFolder / "checkpoints/dino_vitbase16_pretrain.pth";

VitOptions tiny_vit() { return {.image = 32, .patch = 8, .width = 12, .layers = 12, .heads = 3}; }

DreamSimOptions tiny_dreamsim() {
  DreamSimOptions o{
      .dino = tiny_vit(), .clip = tiny_vit(), .open_clip = tiny_vit(), .projection = 8};
  o.clip.layers = 2, o.clip.eps = 1e-5, o.clip.pre_norm = true, o.clip.quick_gelu = true;
  o.open_clip.layers = 3, o.open_clip.eps = 1e-5, o.open_clip.pre_norm = true;
  return o;
}

Tensor get(const std::string& name) {
  return SafetensorsFile(kFolder / "reference.safetensors").load(name);
}

TEST(DreamSimFeatures, AreThePackagesEmbeddings) {
  const DreamSimFeatures features(kFolder, tiny_dreamsim());
  EXPECT_EQ(features.name(), "dreamsim");
  const Tensor images = get("images");
  EXPECT_LT(relative_error(features.features(images), get("embeddings")), 1e-5)
      << "images of the network's own size are left as they are";
  const Tensor e = features.features(images);
  EXPECT_LT(relative_error(0.5 * (e[0] - e[1]).square().sum(), get("distances")[0]), 1e-5);
}

TEST(DreamSimFeatures, StretchImagesOfAnySize) {
  const DreamSimFeatures features(kFolder, tiny_dreamsim());
  const Tensor wide = at::sigmoid(random_double({2, 3, 40, 64}, 1)).to(at::kFloat);
  const Tensor square = ops::resize(wide, 32, 32, ops::Interpolation::kBicubic, /*antialias=*/true);
  EXPECT_LT(relative_error(features.features(wide), features.features(square)), 1e-5);
}

TEST(DinoFeatures, AreTheNormedClassTokenOfTheMiddle) {
  const DinoFeatures features(kDino, tiny_vit());
  EXPECT_EQ(features.name(), "dino-vitb16");
  Vit vit(tiny_vit());
  TensorList targets;
  for (const NamedTensor& p : vit.parameters()) targets.emplace_back(p.name, *p.tensor);
  load_into(open_weights(kDino), "the reference", targets);
  const Tensor images =
      at::sigmoid(random_double({2, 3, 36, 50}, 2)).to(at::kFloat);  // 36 is 32 * 8 / 7
  const auto channels = [](std::vector<float> v) { return at::tensor(v).view({1, 3, 1, 1}); };
  const Tensor middle =
      (images.narrow(2, 2, 32).narrow(3, 9, 32) - channels({0.485f, 0.456f, 0.406f})) /
      channels({0.229f, 0.224f, 0.225f});
  EXPECT_LT(relative_error(features.features(images), vit.forward(middle).select(1, 0)), 1e-5);
}

TEST(VitFeatures, OtherWeightsHaveAnotherHash) {
  const testing::TemporaryFolder folder;
  TensorList all;
  for (const auto& [name, tensor] : open_weights(kDino)) all.emplace_back(name, tensor.clone());
  const auto hash = [&](const char* file) {
    write_safetensors(folder / file, all);
    return DinoFeatures(folder / file, tiny_vit()).weights_hash();
  };
  EXPECT_EQ(hash("same.safetensors"), DinoFeatures(kDino, tiny_vit()).weights_hash());
  all.back().second.view(-1)[0].add_(1e-3);
  EXPECT_NE(hash("other.safetensors"), DinoFeatures(kDino, tiny_vit()).weights_hash());
  EXPECT_NE(DreamSimFeatures(kFolder, tiny_dreamsim()).weights_hash(),
            DinoFeatures(kDino, tiny_vit()).weights_hash());
  all.emplace_back("head.weight", at::zeros({2}));
  EXPECT_THAT(message_of([&] { hash("more.safetensors"); }), HasSubstr("head.weight"));
}

}  // namespace
}  // namespace vggflow
