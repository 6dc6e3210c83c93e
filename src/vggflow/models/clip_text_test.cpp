// CLIP's text tower against transformers' CLIPTextModelWithProjection: values from tools/reference/text_encoder_reference.py.
#include "vggflow/models/clip_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "vggflow/core/error.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;
using testing::message_of;
using testing::relative_error;

const SafetensorsFile& reference() {
  static const SafetensorsFile file(std::filesystem::path(VGGFLOW_SOURCE_DIR) / "src/vggflow/models/testdata/text_encoder_reference.safetensors");
  return file;
}

ClipTextOptions reference_options(const std::string& variant) {
  ClipTextOptions o{.vocabulary = 60, .width = 16, .mlp_width = 24, .layers = 3, .heads = 4, .positions = 16, .projection = 12};
  if (variant == "gelu") o.layers = 2, o.activation = "gelu", o.eos_id = 9;
  return o;
}

class ClipTextParity : public ::testing::TestWithParam<std::string> {
 protected:
  Tensor get(const std::string& name) const { return reference().load(GetParam() + "." + name); }
  ClipTextModel make() const {
    return ClipTextModel(reference_options(GetParam()), [this](const std::string& name) { return get("weights." + name); });
  }
};
INSTANTIATE_TEST_SUITE_P(Variants, ClipTextParity, ::testing::Values("quick", "gelu"));

TEST_P(ClipTextParity, EveryWeightOfTransformersHasItsPlace) {
  size_t weights = 0;
  for (const auto& [name, entry] : reference().tensors()) weights += name.starts_with(GetParam() + ".weights.");
  EXPECT_EQ(make().parameters().size(), weights);
}

TEST_P(ClipTextParity, TokensAndPooledTextEqualTransformers) {
  const ClipTextOutput out = make().forward(get("ids"));
  EXPECT_LT(relative_error(out.penultimate, get("penultimate")), 1e-5);
  EXPECT_LT(relative_error(out.pooled, get("pooled")), 1e-5);
}

TEST_P(ClipTextParity, ATokenSeesOnlyWhatStandsBeforeIt) {
  Tensor ids = get("ids").clone();
  const auto model = make();
  const Tensor before = model.forward(ids).penultimate;
  ids.select(1, 3).fill_(2);
  const Tensor after = model.forward(ids).penultimate;
  EXPECT_TRUE(at::equal(before.narrow(1, 0, 3), after.narrow(1, 0, 3)));
  EXPECT_GT(relative_error(after.narrow(1, 3, 3), before.narrow(1, 3, 3)), 1e-3);
}

TEST(ClipText, TheEndMarkIsTheHighestIdInOldConfigurationsAndTheFirstOfItsIdElsewhere) {
  const Tensor ids = at::tensor(std::vector<int64_t>{5, 9, 7, 9, 8, 9, 50, 2, 9, 9, 1, 1}).view({3, 4});
  ClipTextOptions o = reference_options("quick");
  EXPECT_TRUE(at::equal(ClipTextModel(o).pool_positions(ids), at::tensor(std::vector<int64_t>{1, 2, 0})));
  o.eos_id = 7;
  EXPECT_TRUE(at::equal(ClipTextModel(o).pool_positions(ids), at::tensor(std::vector<int64_t>{2, 0, 0})));
}

TEST(ClipText, RefusesWhatDoesNotFit) {
  EXPECT_THAT(message_of([] { ClipTextModel(reference_options("quick")).forward(at::zeros({2, 17}, at::kLong)); }),
              HasSubstr("[clip_text] expected ids (B, T), T from 1 to 16, got (2, 17)"));
  ClipTextOptions o = reference_options("quick");
  o.activation = "relu";
  EXPECT_THAT(message_of([&] { ClipTextModel model(o); }), HasSubstr("expected the activation quick_gelu or gelu, got 'relu'"));
  EXPECT_THAT(message_of([] { ClipTextModel(reference_options("quick"), [](const std::string&) { return at::zeros({3}); }); }),
              HasSubstr("expected 'text_model.embeddings.token_embedding.weight' of shape (60, 16), got (3)"));
}

class ModelFolder : public ::testing::Test {
 protected:
  ModelFolder() {
    std::filesystem::copy(std::filesystem::path(VGGFLOW_SOURCE_DIR) / "src/vggflow/models/testdata/sd3_prompt/text_encoder", folder);
  }
  std::string refusal() const {
    return message_of([&] { ClipTextModel::load(folder, at::kFloat); });
  }
  const testing::TemporaryFolder scratch;
  const std::filesystem::path folder = scratch.path();
};

TEST_F(ModelFolder, LoadsInTheAskedType) {
  const auto model = ClipTextModel::load(folder, at::kBFloat16);
  EXPECT_EQ(model->options.width, 8);
  EXPECT_EQ(model->forward(at::zeros({1, 4}, at::kLong)).pooled.scalar_type(), at::kBFloat16);
}

TEST_F(ModelFolder, RefusesWeightsOfAnotherModel) {
  const WeightFolder weights(folder);
  TensorList all;
  for (const std::string& name : weights.names()) all.emplace_back(name, weights.load(name));
  auto more = all;
  more.emplace_back("visual.weight", at::zeros({1}));
  write_safetensors(folder / "model.safetensors", more);
  EXPECT_THAT(refusal(), HasSubstr("holds weights that the model of its config.json has not: visual.weight"));
  more.back().first = "text_model.embeddings.position_ids";  // in older checkpoints
  write_safetensors(folder / "model.safetensors", more);
  EXPECT_EQ(refusal(), "no error");
  all.pop_back();
  write_safetensors(folder / "model.safetensors", all);
  EXPECT_THAT(refusal(), HasSubstr("lack 'text_projection.weight'"));
}

TEST_F(ModelFolder, RefusesFoldersThatAreNotWhole) {
  std::filesystem::rename(folder / "model.safetensors", folder / "model.fp16.safetensors");
  EXPECT_EQ(refusal(), "no error") << "the fp16 form of the weights serves too";
  std::filesystem::remove(folder / "model.fp16.safetensors");
  EXPECT_THAT(refusal(), HasSubstr("expected model.safetensors or model.safetensors.index.json"));
  std::ofstream(folder / "model.safetensors.index.json") << R"({"weight_map": {"a": "../elsewhere.safetensors"}})";
  EXPECT_THAT(refusal(), HasSubstr("expected the name of a file beside"));
  std::filesystem::copy(std::filesystem::path(VGGFLOW_SOURCE_DIR) / "src/vggflow/models/testdata/sd3_prompt/text_encoder/model.safetensors",
                        folder / "model.safetensors");
  std::ofstream(folder / "config.json") << R"({"vocab_size": 10})";
  EXPECT_THAT(refusal(), HasSubstr("[clip_text] expected the configuration of a CLIP text model"));
  std::filesystem::remove(folder / "config.json");
  EXPECT_THAT(refusal(), HasSubstr("the model folder is incomplete"));
}

TEST_F(ModelFolder, OtherWeightsHaveAnotherFingerprint) {
  const uint64_t before = WeightFolder(folder).fingerprint();
  EXPECT_EQ(WeightFolder(folder).fingerprint(), before);
  TensorList all;
  {
    const WeightFolder weights(folder);
    for (const std::string& name : weights.names()) all.emplace_back(name, weights.load(name));
  }
  all[5].second.view(-1)[0].add_(1e-3);
  write_safetensors(folder / "model.safetensors", all);
  EXPECT_NE(WeightFolder(folder).fingerprint(), before);
}

}  // namespace
}  // namespace vggflow
