// The vision transformer against timm's and DINO's own: values from
// tools/reference/vit_reference.py.
#include "vggflow/networks/vision/vit.h"

#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <string>

#include "vggflow/core/error.h"
#include "vggflow/io/safetensors.h"
#include "vggflow/networks/model_folder.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/reference.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;
using testing::message_of;
using testing::random_double;
using testing::relative_error;
using testing::tangent_error;

const SafetensorsFile& reference() {
  static const SafetensorsFile file(testing::models_testdata("vit_reference.safetensors"));
  return file;
}

class VitParity : public ::testing::TestWithParam<std::string> {
 protected:
  VitParity() : vit({.image = 32, .patch = 8, .width = 12, .layers = 2, .heads = 3}) {
    const std::string prefix = GetParam() + ".weights.";
    TensorMap weights;
    TensorList targets;
    for (const auto& [name, entry] : reference().tensors()) {
      if (name.starts_with(prefix)) weights[name.substr(prefix.size())] = reference().view(name);
    }
    for (const NamedTensor& p : vit.parameters()) targets.emplace_back(p.name, *p.tensor);
    load_into(weights, "the reference", targets);
  }
  Tensor get(const std::string& name) const { return reference().load(GetParam() + "." + name); }
  Vit vit;
};
INSTANTIATE_TEST_SUITE_P(Packages, VitParity, ::testing::Values("timm", "dino"));

TEST_P(VitParity, TokensAndImageGradientsEqualThePackages) {
  const Tensor images = get("images").requires_grad_(true);
  const Tensor tokens = vit.forward(images);
  EXPECT_LT(relative_error(tokens, get("tokens")), 1e-5);
  EXPECT_LT(
      relative_error(torch::autograd::grad({tokens.square().sum()}, {images})[0], get("gradient")),
      1e-5);
}

TEST_P(VitParity, TangentsEqualCentralDifferences) {
  const Tensor images = get("images").to(at::kDouble);
  EXPECT_LT(tangent_error([&](const std::vector<Tensor>& v) { return vit.forward(v[0]); },
                          [&](const std::vector<Dual>& v) { return vit.forward(v[0]); }, {images}),
            1e-7);
}

// CLIP's way, the norm behind the positions and the quick GELU, is held against its package by
// dreamsim_test.cpp.
TEST(Vit, ThePreNormAndTheQuickGeluHaveTangentsToo) {
  Vit vit({.image = 16,
           .patch = 8,
           .width = 8,
           .layers = 1,
           .heads = 2,
           .quick_gelu = true,
           .pre_norm = true});
  init_layers(vit, 3);
  vit.pos_embed.copy_(random_double(vit.pos_embed.sizes(), 4));
  EXPECT_LT(tangent_error([&](const std::vector<Tensor>& v) { return vit.forward(v[0]); },
                          [&](const std::vector<Dual>& v) { return vit.forward(v[0]); },
                          {random_double({2, 3, 16, 16}, 1)}),
            1e-7);
}

TEST(Vit, TheDefaultsAreTheReleasedTowers) {
  EXPECT_EQ(Vit({}).parameter_count(), 85'798'656);  // DINO's ViT-B/16
  EXPECT_EQ(Vit({.width = 1024, .layers = 24, .heads = 16}).parameter_count(),
            303'301'632);  // timm's ViT-L/16 without its classes
}

TEST(Vit, RefusesWhatDoesNotFit) {
  const Vit vit({.image = 16, .patch = 8, .width = 8, .layers = 1, .heads = 2});
  EXPECT_THAT(message_of([&] { vit.forward(at::zeros({1, 3, 24, 16})); }),
              HasSubstr("[vit] expected images (B, 3, 16, 16), got (1, 3, 24, 16)"));
  EXPECT_THAT(message_of([] { Vit wrong({.image = 20, .patch = 8}); }),
              HasSubstr("expected images of whole patches"));
}

}  // namespace
}  // namespace vggflow
