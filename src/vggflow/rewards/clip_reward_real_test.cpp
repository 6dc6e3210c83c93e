// LAION's aesthetic head on a random tower, and CLIP's own vocabulary through a reward; values from
// tools/reference/clip_reference.py.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "vggflow/io/safetensors.h"
#include "vggflow/networks/clip/clip_checkpoint.h"
#include "vggflow/networks/vision/image_preprocess.h"
#include "vggflow/rewards/reward.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using testing::random_double;
using testing::relative_error;

class ClipRewardsReal : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* assets = std::getenv("VGGFLOW_ASSETS");
    if (!assets)
      GTEST_SKIP() << "left out: rewards with LAION's head and CLIP's vocabulary, because "
                      "VGGFLOW_ASSETS is not set";
    assets_ = assets;
  }
  fs::path assets_;
  testing::TemporaryFolder folder_;
};

// A vision tower as transformers saves it, of the names and tensors given.
void write_tower(const fs::path& folder, const TensorList& tensors) {
  write_safetensors(folder / "model.safetensors", tensors);
  std::ofstream(folder / "config.json")
      << R"({"num_attention_heads": 4, "hidden_act": "quick_gelu", "eos_token_id": 2})";
}

TEST_F(ClipRewardsReal, LaionsHeadOnARandomTowerScoresAsItsScriptDoes) {
  const SafetensorsFile reference(fs::path(VGGFLOW_SOURCE_DIR) /
                                  "src/vggflow/rewards/testdata/aesthetic_real.safetensors");
  TensorList tower;
  for (const auto& [name, tensor] : reference.views()) {
    if (name.starts_with("tower.")) tower.emplace_back(name.substr(6), tensor);
  }
  write_tower(folder_.path(), tower);
  const auto reward = make_reward(
      "aesthetic",
      {{},
       {{"clip-vit-l14", folder_.path()},
        {"aesthetic-head", assets_ / "laion_aesthetic/sac+logos+ava1-l14-linearMSE.pth"}}});
  const RewardGradient got = reward_gradient(*reward, reference.load("image"), {"", "", ""});
  EXPECT_LT(relative_error(got.score, reference.load("score")), 1e-5);
  const Tensor want = reference.load("gradient");
  EXPECT_LT((got.gradient - want).abs().max().item<double>(),
            1e-4 * want.abs().max().item<double>());
}

// The ids are what OpenAI's tokenizer gives; the score of a prompt must be that of its ids.
TEST_F(ClipRewardsReal, PromptsGoThroughClipsVocabulary) {
  ClipVisionModel vision({.image = 8,
                          .patch = 4,
                          .width = 16,
                          .mlp_width = 16,
                          .layers = 1,
                          .heads = 4,
                          .projection = 8});
  ClipTextModel text({.width = 16, .mlp_width = 16, .layers = 2, .heads = 4, .projection = 8});
  TensorList tensors{{"logit_scale", at::full({}, 2.0)}};
  uint64_t id = 0;
  for (const NamedTensor& p : vision.parameters())
    tensors.emplace_back(p.name, random_double(p.tensor->sizes(), id++, 0.3).to(at::kFloat));
  for (const NamedTensor& p : text.parameters())
    tensors.emplace_back(p.name, random_double(p.tensor->sizes(), id++, 0.3).to(at::kFloat));
  write_tower(folder_.path(), tensors);
  for (const char* file : {"vocab.json", "merges.txt"})
    fs::copy(assets_ / "tokenizers/clip" / file, folder_ / file);
  for (const char* file : {"tokenizer_config.json", "special_tokens_map.json"})
    fs::copy(assets_ / "sd3_config/tokenizer" / file, folder_ / file);

  const Tensor image = at::sigmoid(random_double({2, 3, 8, 8}, 77)).to(at::kFloat);
  const Tensor scores = make_reward("clip-score", {{}, {{"clip-vit-l14", folder_.path()}}})
                            ->score(image, {"a photo of a cat", "Hello, world!"});
  const ClipCheckpoint checkpoint = read_clip_checkpoint(folder_.path());
  const auto loaded = make_clip_text(checkpoint, at::kFloat);
  const std::vector<std::vector<int64_t>> ids{{49406, 320, 1125, 539, 320, 2368, 49407},
                                              {49406, 3306, 267, 1002, 256, 49407}};
  const Tensor pixels = preprocess(image, {.size = 8});
  const Tensor vectors = ops::l2_normalize(make_clip_vision(checkpoint, at::kFloat)->embed(pixels));
  for (size_t i = 0; i < ids.size(); ++i) {
    const Tensor word =
        ops::l2_normalize(loaded->forward(at::tensor(ids[i]).unsqueeze(0)).pooled)[0];
    const auto row = static_cast<int64_t>(i);
    EXPECT_NEAR(scores[row].item<double>(), 100 * (vectors[row] * word).sum().item<double>(), 1e-4);
  }
}

}  // namespace
}  // namespace vggflow
