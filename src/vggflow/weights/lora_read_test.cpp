// Spellings of plain LoRA pairs that other programs write, PEFT's settings, and adapters of other
// kinds. Against diffusers' and PEFT's own outputs: lora_formats_test.cpp.

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "vggflow/core/error.h"
#include "vggflow/families/lora.h"
#include "vggflow/io/files.h"
#include "vggflow/io/safetensors.h"
#include "vggflow/ops/random_tensor.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/reference.h"
#include "vggflow/testing/temporary_folder.h"
#include "vggflow/weights/lora_settings.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;

Tensor noise(uint64_t id, at::IntArrayRef shape) {
  return keyed_normal(7, Purpose::kTest, 0, id, 1, shape).squeeze(0);
}

// Three layers: one in an attention, one outside the blocks, and a modulation of two chunks, whose
// halves lie the other way round in the original network.
struct Plain {
  std::string path, original;
  Tensor a, b;
};
const std::vector<Plain>& plain() {
  static const std::vector<Plain> all{
      {"transformer_blocks.1.attn.to_out.0", "joint_blocks.1.x_block.attn.proj", noise(0, {2, 16}),
       noise(1, {16, 2})},
      {"context_embedder", "context_embedder", noise(2, {2, 12}), noise(3, {16, 2})},
      {"norm_out.linear", "final_layer.adaLN_modulation.1", noise(4, {2, 16}), noise(5, {32, 2})}};
  return all;
}

Tensor swapped(const Tensor& b) { return at::cat({b.narrow(0, 16, 16), b.narrow(0, 0, 16)}); }

std::string flat(std::string name) {
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
}

class LoraRead : public ::testing::Test {
 protected:
  // The three layers under `module(path)`, with the two suffixes.
  fs::path write(const std::function<std::string(const Plain&)>& module, bool original,
                 const std::string& down, const std::string& up) {
    TensorList tensors;
    for (const Plain& p : plain()) {
      const bool swaps = original && p.path == "norm_out.linear";
      tensors.emplace_back(module(p) + down, p.a);
      tensors.emplace_back(module(p) + up, swaps ? swapped(p.b) : p.b);
    }
    write_safetensors(folder / "lora.safetensors", tensors);
    return folder / "lora.safetensors";
  }
  void expect_plain(const LoraFile& file, const std::string& what) {
    ASSERT_EQ(file.layers.size(), plain().size()) << what;
    for (const LoraLayer& layer : file.layers) {
      const auto want = std::find_if(plain().begin(), plain().end(),
                                     [&](const Plain& p) { return p.path == layer.path; });
      ASSERT_NE(want, plain().end()) << what << ": " << layer.path;
      EXPECT_TRUE(at::equal(layer.a, want->a)) << what << ": " << layer.path;
      EXPECT_TRUE(at::equal(layer.b, want->b)) << what << ": " << layer.path;
      EXPECT_EQ(layer.scale, 1.0) << what;
    }
  }
  const testing::TemporaryFolder folder;
};

TEST_F(LoraRead, TakesPairsBehindEveryPrefixInBothNamingsWithDotsAndUnderscores) {
  for (const std::string prefix :
       {"", "transformer.", "unet.", "diffusion_model.", "model.diffusion_model.",
        "base_model.model.", "base_model.model.transformer.", "module.", "_orig_mod."}) {
    expect_plain(read_lora(write([&](const Plain& p) { return prefix + p.path; }, false,
                                 ".lora_A.weight", ".lora_B.weight")),
                 prefix);
    expect_plain(read_lora(write([&](const Plain& p) { return prefix + p.original; }, true,
                                 ".lora_A.weight", ".lora_B.weight")),
                 prefix + " original");
  }
  for (const std::string prefix : {"lora_unet_", "lora_transformer_", "lycoris_", "lora_", ""}) {
    expect_plain(read_lora(write([&](const Plain& p) { return prefix + flat(p.path); }, false,
                                 ".lora_down.weight", ".lora_up.weight")),
                 prefix);
    expect_plain(read_lora(write([&](const Plain& p) { return prefix + flat(p.original); }, true,
                                 ".lora_down.weight", ".lora_up.weight")),
                 prefix + " original");
  }
}

TEST_F(LoraRead, TakesAnyAdapterNameAndTheSuffixesOfOldDiffusers) {
  const auto module = [](const Plain& p) { return "transformer." + p.path; };
  for (const auto& [down, up] : std::vector<std::pair<std::string, std::string>>{
           {".lora_A.default.weight", ".lora_B.default.weight"},
           {".lora_A.my-style_2.weight", ".lora_B.my-style_2.weight"},
           {".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"},
           {".lora.down.weight", ".lora.up.weight"}})
    expect_plain(read_lora(write(module, false, down, up)), down);
  EXPECT_THAT(
      message_of([&] { read_lora(write(module, false, ".lora_A.a.b.weight", ".lora_B.x")); }),
      HasSubstr("context_embedder.lora_A.a.b.weight' is no tensor of a LoRA"));
}

TEST_F(LoraRead, NetworksOfOtherNamesAreNotTakenForThisOne) {
  for (const std::string prefix :
       {"controlnet.", "transformer.single_", "lora_unet_single_", "x"}) {
    EXPECT_THAT(message_of([&] {
                  read_lora(write([&](const Plain& p) { return prefix + p.path; }, false,
                                  ".lora_A.weight", ".lora_B.weight"));
                }),
                HasSubstr("is no linear layer of the MMDiT"))
        << prefix;
  }
}

TEST_F(LoraRead, FilesOfTorchSaveAreReadWithTheSafeReader) {
  for (const char* name : {"lora_state_dict.bin", "lora_state_dict.pt"}) {
    const LoraFile file = read_lora(testing::models_testdata(std::string("lora/") + name));
    EXPECT_EQ(file.layers.size(), 2u);
    EXPECT_EQ(file.layers[0].path, "transformer_blocks.0.attn.to_q");
    EXPECT_EQ(file.layers[0].a.sizes(), at::IntArrayRef({2, 16}));
    EXPECT_EQ(file.layers[0].a[1][3].item<float>(), 19.0f / 8);
    EXPECT_EQ(file.layers[0].scale, 0.5);
  }
}

TEST_F(LoraRead, OtherKindsAreNamedOnceWithTheirCount) {
  TensorList tensors;
  for (int64_t block = 0; block < 24; ++block) {
    for (const char* layer : {"attn_to_q", "attn_to_k", "ff_net_0_proj"}) {
      const std::string module = fmt::format("lycoris_transformer_blocks_{}_{}", block, layer);
      for (const char* end : {".lokr_w1", ".lokr_w2_a", ".lokr_w2_b", ".alpha"})
        tensors.emplace_back(module + end, at::ones({1}));
    }
  }
  write_safetensors(folder / "lokr.safetensors", tensors);
  const std::string message = message_of([&] { read_lora(folder / "lokr.safetensors"); });
  EXPECT_THAT(message, HasSubstr("216 tensors of LoKr, which is not read ('lycoris_"));
  EXPECT_THAT(message, HasSubstr("has 216 tensors or adapters without a place: 216 tensors of"));
  EXPECT_LT(message.size(), 600u) << message;
  const std::string q = "model.diffusion_model.transformer_blocks.0.attn.to_q";
  for (const auto& [end, kind] :
       std::vector<std::pair<std::string, std::string>>{{".lora_magnitude_vector", "DoRA"},
                                                        {".dora_scale", "DoRA"},
                                                        {".hada_w1_a", "LoHa"},
                                                        {".oft_blocks", "OFT"},
                                                        {".diff", "whole differences"},
                                                        {".diff_b", "whole differences"},
                                                        {".lora_B.bias", "LoRA with biases"}}) {
    write_safetensors(folder / "kind.safetensors", {{q + ".lora_A.weight", at::ones({2, 16})},
                                                    {q + ".lora_B.weight", at::ones({16, 2})},
                                                    {q + end, at::ones({16})}});
    EXPECT_THAT(message_of([&] { read_lora(folder / "kind.safetensors"); }),
                HasSubstr("1 tensors of " + kind))
        << end;
  }
}

TEST_F(LoraRead, WhateverATextEncoderHasIsSkippedBeforeItsKindIsJudged) {
  const std::string q = "transformer.transformer_blocks.0.attn.to_q";
  TensorList tensors{{q + ".lora_A.weight", at::ones({2, 16})},
                     {q + ".lora_B.weight", at::ones({16, 2})}};
  for (const char* name :
       {"text_encoder.text_model.q_proj.lora_linear_layer.down.weight",
        "text_encoder_2.text_model.q_proj.lora_magnitude_vector", "bundle_emb.token.clip_l",
        "lora_te1_text_model_q.hada_w1_a", "lora_te3_encoder_block_0.lora_down.weight",
        "base_model.model.text_model.encoder.layers.0.lokr_w1", "text_encoders.t5xxl.odd"})
    tensors.emplace_back(name, at::ones({2, 2}));
  write_safetensors(folder / "both.safetensors", tensors);
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(read_lora(folder / "both.safetensors", TextAdapters::kSkip).layers.size(), 1u);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              AllOf(HasSubstr("skipped 7 adapters of text encoders: "), HasSubstr(", and 2 more")));
  EXPECT_THAT(message_of([&] { read_lora(folder / "both.safetensors"); }),
              HasSubstr("7 tensors or adapters without a place: 7 adapters of text encoders"));
}

// Names as long as those of real files, which would take the place of the way out.
TEST_F(LoraRead, TheWayOutOfTextEncodersComesBeforeTheirNames) {
  TensorList tensors{{"transformer.context_embedder.lora_A.weight", plain()[1].a},
                     {"transformer.context_embedder.lora_B.weight", plain()[1].b}};
  for (int64_t layer = 0; layer < 30; ++layer) {
    const std::string module =
        fmt::format("text_encoder_2.text_model.encoder.layers.{}.self_attn.out_proj", layer);
    tensors.emplace_back(module + ".lora_linear_layer.down.weight", at::ones({2, 4}));
    tensors.emplace_back(module + ".lora_linear_layer.up.weight", at::ones({4, 2}));
  }
  write_safetensors(folder / "long.safetensors", tensors);
  EXPECT_THAT(message_of([&] { read_lora(folder / "long.safetensors"); }),
              AllOf(HasSubstr("has 30 tensors or adapters without a place"),
                    HasSubstr("--lora-text-encoders skip (export)"),
                    HasSubstr("generator.lora_text_encoders=skip (sample, eval)"),
                    HasSubstr("init_lora_text_encoders=skip (align): text_encoder_2.")));
  write_safetensors(folder / "long.safetensors",
                    {{"lycoris_" + std::string(900, 'x') + ".lokr_w1", at::ones({1})}});
  EXPECT_THAT(message_of([&] { read_lora(folder / "long.safetensors"); }),
              HasSubstr("merge it into the model with the program that made it"));
}

// ---- settings

TEST(LoraSettings, TheFirstPatternThatMatchesCounts) {
  const LoraSettings settings(
      R"({"r": 4, "lora_alpha": 4, "alpha_pattern": {"\\d\\.attn\\.to_q": 12, ".*to_q": 2}})", "x");
  std::vector<std::string> problems;
  EXPECT_EQ(settings.scale("transformer_blocks.0.attn.to_q", 4, problems), 3.0);
  EXPECT_EQ(settings.scale("transformer_blocks.0.attn2.to_q", 4, problems), 0.5);
  EXPECT_EQ(settings.scale("transformer_blocks.0.attn.to_k", 4, problems), 1.0);
  EXPECT_THAT(problems, ElementsAre());
}

TEST(LoraSettings, EverySettingIsDoneHarmlessOrRefused) {
  const auto with = [](const std::string& setting) {
    return message_of(
        [&] { LoraSettings(fmt::format(R"({{"r": 4, {}}})", setting), "settings of x"); });
  };
  for (const char* fine :
       {R"("init_lora_weights": true)", R"("init_lora_weights": false)",
        R"("init_lora_weights": "gaussian")", R"("init_lora_weights": "orthogonal")",
        R"("init_lora_weights": "eva")", R"("lora_alpha": null)", R"("bias": "none")",
        R"("use_dora": false)", R"("lora_dropout": 0.1)", R"("kasa_config": null)",
        R"("not_yet_invented": null)", R"("not_yet_invented": [])", R"("text_encoder.bias": "all")",
        R"("peft_version": "1.2")"})
    EXPECT_EQ(with(fine), "no error") << fine;
  for (const auto& [bad, said] : std::vector<std::pair<std::string, std::string>>{
           {R"("init_lora_weights": "pissa")", "path_initial_model_for_weight_conversion"},
           {R"("init_lora_weights": "pissa_niter_4")", "changes the base's weights"},
           {R"("init_lora_weights": "olora")", "changes the base's weights"},
           {R"("init_lora_weights": "loftq")", "changes the base's weights"},
           {R"("init_lora_weights": "lora_ga")", "changes the base's weights"},
           {R"("init_lora_weights": 3)", "init_lora_weights 3"},
           {R"("peft_type": "ADALORA")", "an adapter of the kind \"ADALORA\""},
           {R"("bias": "all")", "trained biases"},
           {R"("use_qalora": true)", "QALoRA"},
           {R"("alora_invocation_tokens": [1, 2])", "an activated LoRA"},
           {R"("kasa_config": {"beta": 0.1})", "KaSA"},
           {R"("modules_to_save": ["proj_out"])", "whole modules"},
           {R"("not_yet_invented": 0)", "a setting that is not known here"}})
    EXPECT_THAT(with(bad), AllOf(HasSubstr("settings of x"), HasSubstr(said))) << bad;
  std::vector<std::string> problems;
  EXPECT_EQ(LoraSettings(R"({"lora_alpha": null})", "x").scale("a", 4, problems), 1.0);
  EXPECT_THAT(message_of([&] { LoraSettings(R"({"r": "4"})", "x").scale("a", 4, problems); }),
              HasSubstr("expected a number for the setting 'r', got \"4\""));
}

}  // namespace
}  // namespace vggflow
