// Images and prompts to the common space; values from tools/reference/clip_reference.py where they
// are transformers'.
#include "vggflow/networks/clip/clip_encoders.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vggflow/features/clip_features.h"
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

ClipCheckpoint tiny() {
  return read_clip_checkpoint(testing::models_testdata("clip/transformers_quick"));
}
Tensor images() { return at::sigmoid(random_double({2, 3, 17, 12}, 1)); }

TEST(ClipTextEncoder, GivesAPromptTheVectorOfItsIds) {
  const ClipTokenizer tokenizer(testing::models_testdata("sd3_tiny/tokenizer"));
  const auto tower = make_clip_text(tiny(), at::kFloat);
  const auto ids = tokenizer.ids("a photo of a dog");
  const Tensor want = ops::l2_normalize(tower->forward(at::tensor(ids).unsqueeze(0)).pooled);
  const ClipTextEncoder encoder(tiny(), testing::models_testdata("sd3_tiny/tokenizer"), at::kFloat);
  const Tensor got = encoder.embed({"a cat", "a photo of a dog", "a cat"});
  EXPECT_TRUE(at::equal(got[1], want[0]));
  EXPECT_TRUE(at::equal(got[0], got[2]));
  EXPECT_TRUE(at::equal(encoder.embed({"a photo of a dog"})[0], want[0]))
      << "the second time as well";
}

TEST(ClipTextEncoder, APromptThatIsTooLongKeepsItsFirstTokensAndTheEndMark) {
  const ClipTokenizer tokenizer(testing::models_testdata("sd3_tiny/tokenizer"));
  std::string prompt = "cat";
  for (int i = 0; i < 40; ++i) prompt += " of cat";
  auto ids = tokenizer.ids(prompt);
  ASSERT_GT(ids.size(), 24u);
  ids[23] = ids.back();
  ids.resize(24);
  const Tensor want = ops::l2_normalize(
      make_clip_text(tiny(), at::kFloat)->forward(at::tensor(ids).unsqueeze(0)).pooled);
  EXPECT_TRUE(
      at::equal(ClipTextEncoder(tiny(), testing::models_testdata("sd3_tiny/tokenizer"), at::kFloat)
                    .embed({prompt}),
                want));
}

TEST(ClipTextEncoder, RefusesATokenizerOfALargerVocabulary) {
  const ClipCheckpoint openai =
      read_clip_checkpoint(testing::models_testdata("clip/openai/weights.pt"));
  EXPECT_THAT(message_of([&] {
                ClipTextEncoder(openai, testing::models_testdata("sd3_tiny/tokenizer"), at::kFloat);
              }),
              HasSubstr("knows 60: they do not belong together"));
}

TEST(ClipImageEncoder, EmbedsImagesOfAnySizeAsUnitVectorsAndPassesDerivativesOn) {
  const ClipImageEncoder encoder(tiny(), at::kFloat);
  const Tensor y = encoder.embed(images());
  EXPECT_LT(relative_error(y.norm(2, {1}), at::ones({2}, at::kDouble)), 1e-9);
  EXPECT_LT(relative_error(y * encoder.project(images()).norm(2, {1}, /*keepdim=*/true),
                           encoder.project(images())),
            1e-9);
  EXPECT_LT(testing::tangent_error(
                [&](const std::vector<Tensor>& v) { return encoder.embed(v[0]); },
                [&](const std::vector<Dual>& v) { return encoder.embed(v[0]); }, {images()}),
            1e-7);
}

TEST(ClipFeatures, AreTheTowersEmbeddingsWithANameAndAHash) {
  const ClipFeatures unit(testing::models_testdata("clip/transformers_quick")),
      projected(testing::models_testdata("clip/transformers_quick"), at::kFloat, /*unit=*/false);
  const ClipImageEncoder encoder(tiny(), at::kFloat);
  const Tensor x = images().to(at::kFloat).requires_grad_(true);
  EXPECT_TRUE(at::equal(unit.features(x), encoder.embed(x).detach()));
  EXPECT_TRUE(at::equal(projected.features(x), encoder.project(x).detach()));
  EXPECT_FALSE(unit.features(x).requires_grad());
  EXPECT_EQ(unit.name(), "clip-vit-16x3");
  EXPECT_EQ(projected.name(), "clip-vit-16x3-projected");
  EXPECT_EQ(unit.weights_hash(), projected.weights_hash());
  EXPECT_NE(unit.weights_hash(),
            ClipFeatures(testing::models_testdata("clip/transformers_gelu")).weights_hash());
}

TEST(ClipFeatures, RefuseToGuessTheActivationOfAFileWithoutAConfiguration) {
  const testing::TemporaryFolder folder;
  fs::copy(testing::models_testdata("clip/open_clip"), folder / "whole");
  for (const auto& entry : fs::directory_iterator(testing::models_testdata("clip/open_clip"))) {
    if (entry.path().extension() != ".json")
      fs::copy(entry.path(), folder / entry.path().filename());
  }
  EXPECT_NO_THROW(ClipFeatures(folder / "whole"));
  EXPECT_THAT(
      message_of([&] { ClipFeatures{folder.path()}; }),
      HasSubstr("do not tell GELU from quick-GELU: put its open_clip_config.json beside it"));
  EXPECT_NO_THROW(ClipFeatures(testing::models_testdata("clip/openai/weights.pt")))
      << "OpenAI's own layout";
}

TEST(ClipFeatures, TheHashDoesNotDependOnTheLayout) {
  const testing::TemporaryFolder folder;
  TensorList renamed;
  for (const auto& [name, tensor] :
       read_clip_checkpoint(testing::models_testdata("clip/open_clip")).tensors)
    renamed.emplace_back(name, tensor.contiguous());
  write_safetensors(folder / "model.safetensors", renamed);
  fs::copy(testing::models_testdata("clip/transformers_gelu/config.json"), folder / "config.json");
  const ClipFeatures theirs(testing::models_testdata("clip/open_clip")), ours(folder.path());
  EXPECT_EQ(theirs.weights_hash(), ours.weights_hash());
  // The same weights at other addresses: where a product takes another path for them, the last bits
  // differ (seen on an AMD EPYC).
  EXPECT_TRUE(at::allclose(theirs.features(images().to(at::kFloat)),
                           ours.features(images().to(at::kFloat)), 1e-5, 1e-6));
}

}  // namespace
}  // namespace vggflow
