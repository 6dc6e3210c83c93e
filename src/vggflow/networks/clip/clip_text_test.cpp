// CLIP's text tower against transformers' CLIPTextModelWithProjection: values from
// tools/reference/text_encoder_reference.py.
#include "vggflow/networks/clip/clip_text.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/networks/text/text_encoder_test.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using testing::norm_error;
using testing::relative_error;
using testing::scaled_error;

ClipTextOptions reference_options(const std::string& variant) {
  ClipTextOptions o{.vocabulary = 60,
                    .width = 16,
                    .mlp_width = 24,
                    .layers = 3,
                    .heads = 4,
                    .positions = 16,
                    .projection = 12};
  if (variant == "gelu") o.layers = 2, o.activation = ClipActivation::kGelu, o.eos_id = 9;
  return o;
}

// Loading accounts for every weight of transformers.
class ClipTextParity : public ::testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<ClipTextModel> make(at::ScalarType dtype = at::kFloat) const {
    return ClipTextModel::load(reference_options(GetParam()), reference.weights(), dtype);
  }
  Tensor get(const std::string& name) const { return reference.get(name); }
  const testing::TextEncoderReference reference{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Variants, ClipTextParity, ::testing::Values("quick", "gelu"));

TEST_P(ClipTextParity, TokensAndPooledTextEqualTransformers) {
  const ClipTextOutput out = make()->forward(get("ids"));
  EXPECT_LT(scaled_error(out.penultimate, get("penultimate")), 1e-5);
  EXPECT_LT(scaled_error(out.pooled, get("pooled")), 1e-5);
}

TEST_P(ClipTextParity, Bf16ErrsNoMoreThanTransformersDoes) {
  const ClipTextOutput out = make(at::kBFloat16)->forward(get("ids"));
  for (const auto& [name, got] :
       {std::pair<std::string, Tensor>{"penultimate", out.penultimate}, {"pooled", out.pooled}}) {
    ASSERT_EQ(got.scalar_type(), at::kBFloat16);
    const double theirs = norm_error(get(name + "_bf16"), get(name));
    EXPECT_LT(norm_error(got, get(name)), 1.5 * theirs) << name;
    EXPECT_LT(theirs, 0.01) << name;
  }
}

TEST_P(ClipTextParity, ATokenSeesOnlyWhatStandsBeforeIt) {
  Tensor ids = get("ids").clone();
  const auto model = make();
  const Tensor before = model->forward(ids).penultimate;
  ids.select(1, 3).fill_(2);
  const Tensor after = model->forward(ids).penultimate;
  EXPECT_TRUE(at::equal(before.narrow(1, 0, 3), after.narrow(1, 0, 3)));
  EXPECT_GT(relative_error(after.narrow(1, 3, 3), before.narrow(1, 3, 3)), 1e-3);
}

TEST(ClipText, TheEndMarkIsTheHighestIdInOldConfigurationsAndTheFirstOfItsIdElsewhere) {
  const Tensor ids =
      at::tensor(std::vector<int64_t>{5, 9, 7, 9, 8, 9, 50, 2, 9, 9, 1, 1}).view({3, 4});
  ClipTextOptions o = reference_options("quick");
  EXPECT_TRUE(
      at::equal(ClipTextModel(o).pool_positions(ids), at::tensor(std::vector<int64_t>{1, 2, 0})));
  o.eos_id = 7;
  EXPECT_TRUE(
      at::equal(ClipTextModel(o).pool_positions(ids), at::tensor(std::vector<int64_t>{2, 0, 0})));
}

TEST(ClipText, RefusesWhatDoesNotFit) {
  EXPECT_THAT(message_of([] {
                ClipTextModel(reference_options("quick")).forward(at::zeros({2, 17}, at::kLong));
              }),
              HasSubstr("[clip_text] expected ids (B, T), T from 1 to 16, got (2, 17)"));
  EXPECT_EQ(clip_activation("gelu", "config.json"), ClipActivation::kGelu);
  EXPECT_EQ(message_of([] { clip_activation("relu", "config.json"); }),
            "[clip] config.json: expected the activation quick_gelu or gelu, got 'relu'");
}

class ClipTextFolder : public ::testing::Test {
 protected:
  std::unique_ptr<ClipTextModel> load(at::ScalarType dtype = at::kFloat,
                                      const std::string& variant = "") const {
    return ClipTextModel::load(ClipTextOptions::read(folder.path()),
                               open_component(folder.path(), variant), dtype);
  }
  std::string refusal() const {
    return message_of([&] { load(); });
  }
  const testing::ComponentCopy folder{"text_encoder"};
};

TEST_F(ClipTextFolder, LoadsInTheAskedType) {
  const auto model = load(at::kBFloat16);
  EXPECT_EQ(model->options.width, 8);
  EXPECT_EQ(model->forward(at::zeros({1, 4}, at::kLong)).pooled.scalar_type(), at::kBFloat16);
}

TEST_F(ClipTextFolder, RefusesWeightsOfAnotherModelInOneList) {
  TensorList all = folder.tensors();
  all.emplace_back("text_model.embeddings.position_ids", at::arange(77));  // in older checkpoints
  write_safetensors(folder / "model.safetensors", all);
  EXPECT_EQ(refusal(), "no error");
  all.back() = {"visual.weight", at::zeros({1})};
  std::erase_if(all, [](const auto& t) { return t.first == "text_projection.weight"; });
  for (auto& [name, tensor] : all) {
    if (name == "text_model.final_layer_norm.bias") tensor = at::zeros({3});
  }
  write_safetensors(folder / "model.safetensors", all);
  EXPECT_THAT(refusal(),
              AllOf(HasSubstr("model.safetensors does not fit the network, 3 faults: "),
                    HasSubstr("missing 'text_projection.weight'"),
                    HasSubstr("'text_model.final_layer_norm.bias' has shape (3), expected (8)"),
                    HasSubstr("unexpected 'visual.weight'")));
}

TEST_F(ClipTextFolder, TakesTheVariantThatIsAskedForOrTheOnlyOneThereIs) {
  std::filesystem::rename(folder / "model.safetensors", folder / "model.fp16.safetensors");
  EXPECT_EQ(message_of([&] { load(at::kFloat, "fp16"); }), "no error");
  EXPECT_EQ(refusal(), "no error");
  EXPECT_THAT(message_of([&] { load(at::kFloat, "bf16"); }),
              HasSubstr("has no weights of variant 'bf16' and no plain ones; it has the variants "
                        "fp16: pass one of them"));
  std::filesystem::copy_file(folder / "model.fp16.safetensors", folder / "model.bf16.safetensors");
  EXPECT_THAT(refusal(), HasSubstr("has no default weights, but several variants, bf16, fp16: pass "
                                   "the one to take as variant"));
}

TEST_F(ClipTextFolder, RefusesAConfigurationThatIsNotClips) {
  std::ofstream(folder / "config.json") << R"({"vocab_size": 10})";
  EXPECT_THAT(refusal(), HasSubstr("[clip_text] expected the configuration of a CLIP text model"));
  std::filesystem::remove(folder / "config.json");
  EXPECT_THAT(refusal(), HasSubstr("the model folder is incomplete"));
}

}  // namespace
}  // namespace vggflow
