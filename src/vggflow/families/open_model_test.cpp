#include "vggflow/families/open_model.h"

#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "vggflow/io/files.h"
#include "vggflow/io/safetensors.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/ranks.h"
#include "vggflow/testing/reference.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using ::testing::Not;

TEST(OpenModel, FindsTheProgramsModelsFromAnyFolder) {
  const fs::path before = fs::current_path();
  const testing::TemporaryFolder folder;
  fs::current_path(folder.path());
  ModelOptions options;
  EXPECT_EQ(open_flow_model(options)->state_shape(), (std::vector<int64_t>{3, 32, 32}));
  EXPECT_TRUE(is_model_folder(model_path(options)));
  options.model = "models/none";
  EXPECT_THAT(message_of([&] { open_flow_model(options); }), HasSubstr("models/none or "));
  fs::current_path(before);
}

TEST(OpenModel, TellsNanoFromStableDiffusion3) {
  ModelOptions options;
  options.model = std::string(VGGFLOW_SOURCE_DIR) + "/models/nano";
  EXPECT_EQ(open_flow_model(options)->state_shape(), (std::vector<int64_t>{3, 32, 32}));
  options.model = testing::models_testdata("sd3_tiny");
  EXPECT_EQ(open_flow_model(options)->state_shape().front(), 4);
  const testing::TemporaryFolder folder;
  options.model = folder.path();
  EXPECT_THAT(message_of([&] { open_flow_model(options); }),
              HasSubstr("is no model: expected vocabulary.txt (nano) or model_index.json"));
}

TEST(OpenModel, RanksLoadTheTextEncodersOnceForAll) {
  ModelOptions options;
  options.model = testing::models_testdata("sd3_tiny");
  options.precision = Precision::kFp32;
  const std::vector<std::string> prompts{"a cat", "a dog"};
  const auto alone = open_flow_model(options);
  alone->prepare(prompts);
  testing::on_threads(2, [&](const Group& group) {
    const auto model = open_flow_model(options, group);
    model->prepare(prompts);
    const Conditioning own = model->encode({"a dog"}), same = alone->encode({"a dog"});
    EXPECT_TRUE(at::equal(own.context, same.context) && at::equal(own.pooled, same.pooled));
    EXPECT_TRUE(at::equal(model->unconditional(1).context, alone->unconditional(1).context));
    EXPECT_EQ(dynamic_cast<const Sd3Model&>(*model).prompts().loads(), group.leads() ? 1 : 0);
  });
}

TEST(OpenModel, RanksReadPromptsThatRankZeroKeptInAFolder) {
  const testing::TemporaryFolder folder;
  ModelOptions options;
  options.model = testing::models_testdata("sd3_tiny");
  options.precision = Precision::kFp32;
  options.sd3.embedding_cache = folder.path();
  testing::on_threads(2, [&](const Group& group) {
    const auto model = open_flow_model(options, group);
    model->prepare({"a cat"});
    EXPECT_EQ(model->encode({"a cat"}).context.size(0), 1);
    EXPECT_EQ(dynamic_cast<const Sd3Model&>(*model).prompts().loads(), group.leads() ? 1 : 0);
  });
}

Sd3Options with_variant(const std::string& variant) {
  Sd3Options options;
  options.variant = variant;
  return options;
}

// A snapshot that was fetched with variant=fp16: the text encoders are there in fp16 alone,
// transformer and autoencoder plain.
class MixedVariants : public ::testing::Test {
 protected:
  MixedVariants() {
    fs::copy(testing::models_testdata("sd3_tiny"), model, fs::copy_options::recursive);
    for (const char* component : {"text_encoder", "text_encoder_2"})
      fs::rename(model / component / "model.safetensors",
                 model / component / "model.fp16.safetensors");
    fs::rename(model / "text_encoder_3/model.safetensors.index.json",
               model / "text_encoder_3/model.safetensors.index.fp16.json");
  }
  // What opening it and using its encoders logs.
  std::string opened(const std::string& variant) const {
    ::testing::internal::CaptureStderr();
    open_flow_model({.model = model, .precision = Precision::kFp32, .sd3 = with_variant(variant)})
        ->prepare({"a cat"});
    return ::testing::internal::GetCapturedStderr();
  }
  const testing::TemporaryFolder scratch;
  const fs::path model = scratch / "model";
};

TEST_F(MixedVariants, OpenWithTheVariantAndWithoutAndSaySoInOneLine) {
  EXPECT_THAT(
      opened("fp16"),
      AllOf(
          HasSubstr("no weights of variant 'fp16' of transformer, vae: using the default files\n"),
          Not(HasSubstr("text_encoder"))));
  EXPECT_THAT(opened(""),
              AllOf(HasSubstr("no default weights of text_encoder, text_encoder_2, text_encoder_3: "
                              "using the only variant, 'fp16'\n"),
                    Not(HasSubstr("vae"))));
}

TEST_F(MixedVariants, WhatNoComponentHasOrWhatLeavesAChoiceIsRefused) {
  fs::copy_file(model / "text_encoder/model.fp16.safetensors",
                model / "text_encoder/model.ema.safetensors");
  EXPECT_THAT(
      message_of([&] { Sd3Files(model, {}); }),
      HasSubstr("text_encoder has no default weights, but several variants, ema, fp16: pass "
                "the one to take as variant"));
  EXPECT_THAT(message_of([&] { Sd3Files(model, with_variant("bf16")); }),
              HasSubstr("text_encoder has no weights of variant 'bf16' and no plain ones"));
  EXPECT_THAT(
      message_of([] { Sd3Files(testing::models_testdata("sd3_tiny"), with_variant("bf16")); }),
      HasSubstr("no component of " + testing::models_testdata("sd3_tiny").string() +
                " has weights of variant 'bf16': leave the variant out"));
}

TEST(OpenModel, SaysWhatOfT5IsThereAndWhatIsMissing) {
  const testing::TemporaryFolder scratch;
  ModelOptions o{.model = scratch / "model", .precision = Precision::kFp32, .sd3 = {}};
  fs::copy(testing::models_testdata("sd3_tiny"), o.model, fs::copy_options::recursive);
  fs::remove_all(fs::path(o.model) / "tokenizer_3");
  EXPECT_THAT(message_of([&] { open_flow_model(o); }),
              AllOf(HasSubstr("has T5's weights (text_encoder_3), but no tokenizer_3"),
                    HasSubstr("or leave T5 out with sd3.t5=false")));
  o.sd3.t5 = false;
  EXPECT_EQ(open_flow_model(o)->state_shape().front(), 4);
}

TEST(OpenModel, ASingleFileNamesTheSettingOfItsConfigurationsForEveryCommand) {
  const testing::TemporaryFolder scratch;
  write_safetensors(
      scratch / "a.safetensors",
      {{"model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight", at::zeros({1})}});
  EXPECT_THAT(message_of([&] { Sd3Files((scratch / "a.safetensors").string(), {}); }),
              HasSubstr("as sd3.config (sample, eval, sweep, metrics: generator.sd3.config; "
                        "convert, export: --model-config FOLDER)"));
}

TEST(OpenModel, RefusesSettingsThatANanoModelWouldIgnore) {
  ModelOptions options;
  options.model = std::string(VGGFLOW_SOURCE_DIR) + "/models/nano";
  options.sd3.negative_prompt = "ugly";
  options.sd3.width = 512;
  EXPECT_THAT(message_of([&] { open_flow_model(options); }),
              HasSubstr("is a nano model, which has no sd3.width, sd3.negative_prompt"));
}

}  // namespace
}  // namespace vggflow
