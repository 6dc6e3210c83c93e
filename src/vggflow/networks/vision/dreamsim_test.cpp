// DreamSim against the dreamsim package on random weights in its own folder layout: values from
// tools/reference/vit_reference.py.
#include "vggflow/networks/vision/dreamsim.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <fstream>
#include <vector>

#include "vggflow/core/error.h"
#include "vggflow/io/safetensors.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/reference.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::message_of;
using testing::relative_error;
using testing::tangent_error;

const fs::path& reference_folder() {
  static const fs::path folder = testing::models_testdata("dreamsim");
  return folder;
}

Tensor get(const std::string& name) {
  return SafetensorsFile(reference_folder() / "reference.safetensors").load(name);
}

DreamSimOptions tiny_options() {
  const VitOptions vit{.image = 32, .patch = 8, .width = 12, .layers = 12, .heads = 3};
  DreamSimOptions o{.dino = vit, .clip = vit, .open_clip = vit, .projection = 8};
  o.clip.layers = 2, o.clip.eps = 1e-5, o.clip.pre_norm = true, o.clip.quick_gelu = true;
  o.open_clip.layers = 3, o.open_clip.eps = 1e-5, o.open_clip.pre_norm = true;
  return o;
}

TEST(DreamSim, EmbeddingsDistancesAndTheirGradientsEqualThePackage) {
  const auto network = DreamSim::load(reference_folder(), tiny_options());
  const Tensor images = get("images").requires_grad_(true);
  const Tensor e = network->embed(images);
  EXPECT_LT(relative_error(e, get("embeddings")), 1e-5);
  const Tensor distances = dreamsim_distance<Tensor>(e.narrow(0, 0, 1), e.narrow(0, 1, 2));
  EXPECT_LT(relative_error(distances, get("distances")), 1e-5);
  // The gradient's largest entry is far below 1, so it is the yardstick itself.
  const Tensor want = get("gradient");
  const double largest = want.abs().max().item<double>();
  EXPECT_LT(relative_error(torch::autograd::grad({distances.sum()}, {images})[0] / largest,
                           want / largest),
            1e-4);
}

// Twelve layers of random weights curve enough for the differences' own error to show: 1.3e-7.
TEST(DreamSim, TangentsEqualCentralDifferences) {
  const auto network = DreamSim::load(reference_folder(), tiny_options());
  EXPECT_LT(tangent_error([&](const std::vector<Tensor>& v) { return network->embed(v[0]); },
                          [&](const std::vector<Dual>& v) { return network->embed(v[0]); },
                          {get("images").to(at::kDouble)}),
            1e-6);
}

TEST(DreamSim, AnImageIsAtDistanceZeroFromItself) {
  const Tensor e = DreamSim::load(reference_folder(), tiny_options())->embed(get("images"));
  EXPECT_LT(dreamsim_distance<Tensor>(e, e).abs().max().item<double>(), 1e-6);
  EXPECT_LT(relative_error(e.square().sum(1), at::ones({3})), 1e-5);
  EXPECT_LT(e.mean(1).abs().max().item<double>(), 1e-6);
}

TEST(DreamSim, TheAdaptersTakePart) {
  const testing::TemporaryFolder folder;
  fs::copy(reference_folder(), folder.path(),
           fs::copy_options::recursive | fs::copy_options::overwrite_existing);
  std::ofstream(folder / "ensemble_lora/adapter_config.json") << R"({"lora_alpha": 0})";
  const Tensor without = DreamSim::load(folder.path(), tiny_options())->embed(get("images"));
  EXPECT_GT(relative_error(without, get("embeddings")), 1e-2);
}

TEST(DreamSim, TheDefaultsAreTheReleasedEnsemble) {
  const DreamSim network({});
  EXPECT_EQ(network.options.dino.width + 2 * network.options.projection, 1792);
  EXPECT_EQ(network.parameter_count(), 3 * 85'798'656 + 2 * (2 * 768 + 768 * 512));
}

class DreamSimFolder : public ::testing::Test {
 protected:
  DreamSimFolder() {
    fs::copy(reference_folder(), folder.path(),
             fs::copy_options::recursive | fs::copy_options::overwrite_existing);
  }
  std::string refusal() const {
    return message_of([&] { DreamSim::load(folder.path(), tiny_options()); });
  }
  testing::TemporaryFolder folder;
};

TEST_F(DreamSimFolder, RefusesFoldersThatAreNotWhole) {
  fs::remove(folder / "ensemble_lora/adapter_model.safetensors");
  EXPECT_THAT(refusal(),
              HasSubstr("holds neither adapter_model.safetensors nor adapter_model.bin"));
  fs::remove(folder / "clip_vitb16_pretrain.pth.tar");
  EXPECT_THAT(refusal(), HasSubstr("clip_vitb16_pretrain.pth.tar does not exist: expected the "
                                   "folder in which the dreamsim package keeps"));
}

TEST_F(DreamSimFolder, RefusesAdaptersThatDoNotFit) {
  const std::string layer = "base_model.model.extractor_list.0.model.blocks.0.attn.qkv";
  const auto write = [&](const TensorList& tensors) {
    write_safetensors(folder / "ensemble_lora/adapter_model.safetensors", tensors);
  };
  write({{layer + ".lora_A.weight", at::zeros({2, 12})}});
  EXPECT_THAT(refusal(), HasSubstr("with its lora_B"));
  write({{layer + ".lora_B.weight", at::zeros({36, 2})}});
  EXPECT_THAT(refusal(), HasSubstr("expected a lora_A for every lora_B"));
  write({{layer + ".lora_A.weight", at::zeros({2, 12})},
         {layer + ".lora_B.weight", at::zeros({35, 2})}});
  EXPECT_THAT(refusal(), HasSubstr("extractor_list.0.model.blocks.0.attn.qkv"));
  write({{"base_model.model.mlp.fc1.lora_A.weight", at::zeros({2, 12})}});
  EXPECT_THAT(refusal(), HasSubstr("expected adapters of extractor_list"));
  std::ofstream(folder / "ensemble_lora/adapter_config.json") << "{}";
  EXPECT_THAT(refusal(), HasSubstr("expected a number lora_alpha"));
}

}  // namespace
}  // namespace vggflow
