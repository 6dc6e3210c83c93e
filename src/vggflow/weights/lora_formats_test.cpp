// LoRA files against diffusers and PEFT: what they wrote is read here with their outputs
// (tools/reference/lora_reference.py make); what is written here they read with ours (the same
// script's check, on the files of VGGFLOW_LORA_OUT).
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "vggflow/convert/lora_export.h"
#include "vggflow/core/config.h"
#include "vggflow/core/error.h"
#include "vggflow/families/lora.h"
#include "vggflow/families/nano/model.h"
#include "vggflow/families/sd3/mmdit.h"
#include "vggflow/flow/network_probe.h"
#include "vggflow/io/files.h"
#include "vggflow/ops/random_tensor.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/reference.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using testing::relative_error;

// The network, weights and inputs of tools/reference/lora_reference.py.
class LoraFormats : public ::testing::Test {
 protected:
  LoraFormats()
      : net({.sample_size = 8,
             .channels = 4,
             .patch_size = 2,
             .layers = 3,
             .heads = 2,
             .head_dim = 8,
             .context_dim = 12,
             .pooled_dim = 10,
             .pos_embed_max = 6}),
        reference(testing::models_testdata("lora/network.safetensors")) {
    for (const NamedTensor& p : net.parameters()) *p.tensor = reference.load("weights." + p.name);
  }

  // The output with adapters merged; none: the base.
  Tensor output(const std::vector<LoraLayer>& layers) {
    const auto run = [&](const Mmdit& network) {
      return network
          .forward(reference.load("x"), reference.load("t"),
                   {reference.load("context"), reference.load("pooled")})
          .detach();
    };
    if (layers.empty()) return run(net);
    const auto merged = net.view();
    LoraSet(*merged, layers).bake();
    return run(*merged);
  }
  // Adapters with no zero matrix on all layers that match.
  std::vector<LoraLayer> trained(const LoraOptions& options) {
    const auto view = net.view();
    LoraSet set(*view, options, 1);
    uint64_t id = 0;
    for (const NamedTensor& p : set.parameters())
      *p.tensor = 0.3 * keyed_normal(3, Purpose::kTest, 0, id++, 1, p.tensor->sizes()).squeeze(0);
    return set.adapters();
  }
  std::vector<LoraLayer> trained_everywhere() {
    return trained({.rank = 2, .alpha = 3, .targets = {"*"}});
  }

  Mmdit net;
  SafetensorsFile reference;
  const testing::TemporaryFolder scratch;
  const fs::path folder = scratch.path();
};

std::map<std::string, LoraLayer> by_path(const std::vector<LoraLayer>& layers) {
  std::map<std::string, LoraLayer> all;
  for (const LoraLayer& layer : layers) all[layer.path] = layer;
  return all;
}

struct Theirs {
  const char* name;
  const char* path;
  LoraLayout layout;
};

TEST_F(LoraFormats, WhatDiffusersPeftAndKohyaWroteGivesTheirOutputs) {
  const SafetensorsFile outputs(testing::models_testdata("lora/outputs.safetensors"));
  const Tensor base = output({});
  EXPECT_LT(relative_error(base, outputs.load("base")), 1e-5);
  for (const Theirs& file :
       {Theirs{"diffusers_metadata", "lora/diffusers_metadata.safetensors", LoraLayout::kDiffusers},
        Theirs{"diffusers_plain", "lora/diffusers_plain.safetensors", LoraLayout::kDiffusers},
        Theirs{"diffusers_model", "lora/diffusers_model.safetensors", LoraLayout::kDiffusers},
        Theirs{"peft", "lora/peft", LoraLayout::kPeft},
        Theirs{"kohya", "lora/kohya.safetensors", LoraLayout::kKohya}}) {
    const LoraFile lora = read_lora(testing::models_testdata(file.path));
    EXPECT_EQ(lora.layout, file.layout) << file.name;
    const double error = relative_error(output(lora.layers), outputs.load(file.name));
    RecordProperty(file.name, std::to_string(error));
    EXPECT_LT(error, 1e-4) << file.name;
    EXPECT_GT(relative_error(output(lora.layers), base), 1e-2) << file.name;
  }
}

TEST_F(LoraFormats, EveryLayerSurvivesEveryLayoutAndDtype) {
  const auto layers = trained_everywhere();
  EXPECT_EQ(layers.size(), 46u);
  const char* kept =
      std::getenv("VGGFLOW_LORA_OUT");  // for tools/reference/lora_reference.py check
  const fs::path out = kept ? fs::path(kept) : folder;
  make_writable_folder(out);
  TensorList outputs;
  const Denoiser denoiser = [&](const std::vector<LoraLayer>& l) { return output(l); };
  for (const LoraLayout layout : {LoraLayout::kDiffusers, LoraLayout::kPeft, LoraLayout::kKohya}) {
    for (const auto& [dtype, suffix] :
         {std::pair{at::kFloat, "fp32"}, {at::kHalf, "fp16"}, {at::kBFloat16, "bf16"}}) {
      const std::string name = fmt::format("{}_{}", name_of(layout), suffix);
      const fs::path path = out / (layout == LoraLayout::kPeft ? name : name + ".safetensors");
      const LoadBack seen =
          write_lora(path, layers, layout, dtype, {{"vggflow.method", "vgg"}}, denoiser);
      EXPECT_EQ(seen.layers, layers.size()) << name;
      EXPECT_EQ(seen.tensors,
                layout == LoraLayout::kKohya ? 3u * (layers.size() - 2 * 6) : 2u * layers.size())
          << name;
      EXPECT_GT(seen.denoiser_change, 0.1) << name;
      EXPECT_LT(seen.worst_layer, load_back_tolerance(dtype)) << name;
      EXPECT_EQ(seen.worst_layer > 1e-5, dtype != at::kFloat)
          << name << ": rounding is what the dtype says";
      const LoraFile back = read_lora(path);
      EXPECT_EQ(back.layout, layout) << name;
      EXPECT_EQ(back.metadata.at("vggflow.method"), "vgg");
      EXPECT_THAT(back.metadata.at("vggflow.export"), HasSubstr("\"scales_folded_into_b\":[1.5]"));
      for (const LoraLayer& layer : back.layers)
        EXPECT_EQ(layer.scale, 1.0) << name << " " << layer.path;
      outputs.emplace_back(name, output(back.layers));
    }
  }
  write_safetensors(out / "outputs.safetensors", outputs);
}

TEST_F(LoraFormats, KohyaFusesThreeProjectionsIntoOneBlockDiagonalAdapterOfThreeTimesTheRank) {
  const auto layers =
      trained({.rank = 2, .alpha = 3, .targets = {"transformer_blocks.0.attn.to_*"}});
  const fs::path path = folder / "fused.safetensors";
  write_lora(path, layers, LoraLayout::kKohya, at::kFloat);
  const SafetensorsFile file(path);
  const std::string name = "lora_unet_joint_blocks_0_x_block_attn_qkv";
  const Tensor down = file.load(name + ".lora_down.weight"),
               up = file.load(name + ".lora_up.weight");
  EXPECT_EQ(down.sizes(), (std::vector<int64_t>{6, 16}));
  EXPECT_EQ(up.sizes(), (std::vector<int64_t>{48, 6}));
  EXPECT_EQ(file.load(name + ".alpha").item<double>(), 6.0);
  const auto part = by_path(layers);
  const LoraLayer& k = part.at("transformer_blocks.0.attn.to_k");
  EXPECT_TRUE(at::equal(down.narrow(0, 2, 2), k.a));
  EXPECT_TRUE(at::equal(up.narrow(0, 16, 16).narrow(1, 2, 2), k.b * 1.5));
  EXPECT_EQ(up.narrow(0, 16, 16).ne(0).sum().item<int64_t>(), 16 * 2);
  EXPECT_TRUE(file.contains("lora_unet_joint_blocks_0_x_block_attn_proj.lora_down.weight"));
  // Read back, each projection has its own rank again.
  const auto back = by_path(read_lora(path).layers);
  EXPECT_EQ(back.size(), layers.size());
  EXPECT_TRUE(at::equal(back.at(k.path).a, k.a));
  EXPECT_TRUE(at::equal(back.at(k.path).b, k.b * 1.5));
}

TEST_F(LoraFormats, AFusedAdapterOfOneProjectionOrUnequalRanksComesBackExactly) {
  auto layers = trained({.rank = 3, .alpha = 3, .targets = {"transformer_blocks.1.attn.to_k"}});
  const fs::path one = folder / "one.safetensors", two = folder / "two.safetensors";
  write_lora(one, layers, LoraLayout::kKohya, at::kFloat);
  const auto back = read_lora(one).layers;
  ASSERT_EQ(back.size(), 1u);
  EXPECT_EQ(back[0].path, "transformer_blocks.1.attn.to_k");
  EXPECT_TRUE(at::equal(back[0].b, layers[0].b));
  const auto q = trained({.rank = 1, .alpha = 1, .targets = {"transformer_blocks.1.attn.to_q"}});
  layers.push_back(q[0]);
  write_lora(two, layers, LoraLayout::kKohya, at::kFloat);
  const auto both = by_path(read_lora(two).layers);
  ASSERT_EQ(both.size(), 2u);
  EXPECT_EQ(both.at("transformer_blocks.1.attn.to_q").rank(), 1);
  EXPECT_EQ(both.at("transformer_blocks.1.attn.to_k").rank(), 3);
}

TEST_F(LoraFormats, ADenseFusedAdapterIsReadAtFullRankAndFusesAgainWithoutGrowing) {
  const LoraFile lora = read_lora(testing::models_testdata("lora/kohya.safetensors"));
  const auto layers = by_path(lora.layers);
  EXPECT_EQ(layers.at("transformer_blocks.0.attn.to_q").rank(), 2);
  EXPECT_EQ(layers.at("transformer_blocks.0.attn.to_q").scale, 0.75);
  const fs::path path = folder / "again.safetensors";
  write_lora(path, lora.layers, LoraLayout::kKohya, at::kFloat);
  EXPECT_EQ(SafetensorsFile(path)
                .load("lora_unet_joint_blocks_0_x_block_attn_qkv.lora_down.weight")
                .size(0),
            2);
  EXPECT_EQ(read_lora(path).tensors, lora.tensors);
}

TEST(LoraNames, EveryLinearLayerHasOneKohyaNameAndComesBack) {
  Mmdit net({.layers = 2});
  const LoraNames names = lora_names();
  int64_t layers = 0;
  for (auto& [path, module] : net.modules()) {
    if (!dynamic_cast<Linear*>(module)) continue;
    ++layers;
    const auto slot = names.slot(path);
    ASSERT_TRUE(slot) << path;
    const auto paths = names.paths(slot->name);
    ASSERT_EQ(paths.size(), static_cast<size_t>(slot->parts)) << path;
    EXPECT_EQ(paths[static_cast<size_t>(slot->part)], path);
  }
  EXPECT_EQ(layers, 32);
  EXPECT_EQ(names.slot("transformer_blocks.23.attn.to_out.0")->name,
            "lora_unet_joint_blocks_23_x_block_attn_proj");
  EXPECT_EQ(names.slot("transformer_blocks.0.attn.to_add_out")->name,
            "lora_unet_joint_blocks_0_context_block_attn_proj");
  EXPECT_FALSE(names.slot("transformer_blocks.x.attn.to_q"));
  EXPECT_FALSE(names.slot("pos_embed.proj"));
}

// ---- the load-back check
// -------------------------------------------------------------------------------------------------

TEST_F(LoraFormats, TheLoadBackCheckNamesTheLayerThatDiffers) {
  const auto layers =
      trained({.rank = 2, .alpha = 2, .targets = {"transformer_blocks.*.attn.to_q"}});
  const fs::path path = folder / "lora.safetensors";
  write_lora(path, layers, LoraLayout::kDiffusers, at::kFloat);
  auto other = layers;
  other[1].b = other[1].b * 1.01;
  const std::string message =
      message_of([&] { check_load_back(lora_names(), path, other, 6, at::kFloat); });
  EXPECT_THAT(message, AllOf(HasSubstr("does not read back as written"),
                             HasSubstr("'transformer_blocks.1.attn.to_q' differs by")));
  EXPECT_THAT(message, ::testing::Not(HasSubstr("blocks.0")));
  EXPECT_THAT(message_of([&] { check_load_back(lora_names(), path, layers, 8, at::kFloat); }),
              HasSubstr("8 tensors were written, 6 are there"));
  other = {layers[0], layers[1]};
  EXPECT_THAT(message_of([&] { check_load_back(lora_names(), path, other, 6, at::kFloat); }),
              HasSubstr("'transformer_blocks.2.attn.to_q' is there, but was not written"));
}

TEST_F(LoraFormats, TheLoadBackCheckSeesANetworkThatIgnoresTheAdapter) {
  const auto layers =
      trained({.rank = 2, .alpha = 2, .targets = {"transformer_blocks.*.attn.to_q"}});
  const Denoiser deaf = [&](const std::vector<LoraLayer>&) { return output({}); };
  EXPECT_THAT(message_of([&] {
                write_lora(folder / "a.safetensors", layers, LoraLayout::kDiffusers, at::kFloat, {},
                           deaf);
              }),
              HasSubstr("the adapter changes nothing in the denoiser's output"));
  LoraSet fresh(net, {.rank = 2, .alpha = 2, .targets = {"transformer_blocks.*.attn.to_q"}}, 1);
  for (const LoraLayout layout : {LoraLayout::kDiffusers, LoraLayout::kPeft, LoraLayout::kKohya}) {
    const fs::path path = folder / (std::string("fresh") + name_of(layout));
    EXPECT_TRUE(write_lora(path, fresh.adapters(), layout, at::kFloat, {}, deaf).fresh)
        << name_of(layout);
  }
}

TEST_F(LoraFormats, Fp16RefusesNumbersThatVanishInIt) {
  auto layers = trained({.rank = 2, .alpha = 2, .targets = {"transformer_blocks.0.attn.to_q"}});
  layers[0].b = layers[0].b * 1e-8;
  EXPECT_THAT(
      message_of(
          [&] { write_lora(folder / "a.safetensors", layers, LoraLayout::kDiffusers, at::kHalf); }),
      AllOf(HasSubstr("'transformer_blocks.0.attn.to_q' differs by"), HasSubstr("write fp32")));
  EXPECT_EQ(message_of([&] {
              write_lora(folder / "b.safetensors", layers, LoraLayout::kDiffusers, at::kBFloat16);
            }),
            "no error");
}

// ---- refusals
// ------------------------------------------------------------------------------------------------------------

TEST_F(LoraFormats, EveryTensorWithoutAPlaceIsListedInOneError) {
  const fs::path path = folder / "odd.safetensors";
  const Tensor a = at::ones({2, 16}), b = at::ones({16, 2});
  const std::string q = "transformer.transformer_blocks.0.attn.to_q.",
                    k = "transformer.transformer_blocks.0.attn.to_k.";
  write_safetensors(path, {{q + "lora_A.weight", a},
                           {q + "lora_B.weight", b},
                           {k + "lora_A.weight", a},
                           {"text_encoder.layers.0.q_proj.lora_A.weight", a},
                           {"text_encoder.layers.0.q_proj.lora_B.weight", b},
                           {"transformer.proj_out.lora_A.weight", a},
                           {"transformer.proj_out.lora_B.weight", at::ones({16, 3})},
                           {"transformer.context_embedder.lora_A.weight", at::full({2, 12}, NAN)},
                           {"transformer.norm_out.linear.alpha", at::ones({2})}});
  const std::string message = message_of([&] { read_lora(path); });
  EXPECT_THAT(
      message,
      AllOf(
          HasSubstr("to_k' lacks its lora_B (up)"),
          HasSubstr("1 adapters of text encoders, which are not adapted here. Leave them out by "),
          HasSubstr("(align): text_encoder.layers.0.q_proj"),
          HasSubstr("'transformer.proj_out' has 2 rows in A (down) and 3 columns in B (up)"),
          HasSubstr("context_embedder.lora_A.weight' holds numbers that are not finite"),
          HasSubstr("'transformer.norm_out.linear.alpha' has shape (2), expected one number")));
  write_safetensors(path, {{"lora_te1_text_model_q.lora_down.weight", a},
                           {"lora_te1_text_model_q.lora_up.weight", b},
                           {"lora_unet_joint_blocks_0_x_block_attn_qkv.lora_down.weight", a},
                           {"lora_unet_joint_blocks_0_x_block_attn_qkv.lora_up.weight", b},
                           {"lora_unet_joint_blocks_0_x_block_attn_proj.hada_w1_a", a}});
  EXPECT_THAT(message_of([&] { read_lora(path); }),
              AllOf(HasSubstr("(read as kohya)"), HasSubstr("--lora-text-encoders skip (export)"),
                    HasSubstr("(align): lora_te1_text_model_q"),
                    HasSubstr("has 16 rows in lora_up: expected q, k and v of equal height"),
                    HasSubstr("1 tensors of LoHa, which is not read ('lora_unet_joint_blocks_0_x_"
                              "block_attn_proj.hada_w1_a')")));
}

// As kohya and diffusers write them, diffusers with settings of the transformer alone.
TEST_F(LoraFormats, AdaptersOfTextEncodersAreSkippedWhereAskedFor) {
  const auto layers =
      trained({.rank = 2, .alpha = 2, .targets = {"transformer_blocks.0.attn.to_out.0"}});
  const Tensor a = at::ones({1, 16}), b = at::ones({16, 1});
  for (const auto& [layout, name, suffixes] :
       {std::tuple{LoraLayout::kKohya, "lora_te1_text_model_q",
                   std::pair{".lora_down.weight", ".lora_up.weight"}},
        {LoraLayout::kDiffusers,
         "text_encoder.text_model.q",
         {".lora_A.weight", ".lora_B.weight"}}}) {
    const fs::path plain = folder / fmt::format("{}.safetensors", name_of(layout)),
                   both = folder / fmt::format("{}_both.safetensors", name_of(layout));
    write_lora(plain, layers, layout, at::kFloat);
    const SafetensorsFile file(plain);
    TensorList tensors{{name + std::string(suffixes.first), a},
                       {name + std::string(suffixes.second), b}};
    for (const auto& [key, tensor] : file.views()) tensors.emplace_back(key, tensor);
    write_safetensors(both, tensors, file.metadata());
    EXPECT_THAT(
        message_of([&] { read_lora(both); }),
        AllOf(HasSubstr("1 adapters of text encoders, which are not adapted here"),
              HasSubstr("--lora-text-encoders skip"), HasSubstr(fmt::format("(align): {}", name)),
              ::testing::Not(HasSubstr("by its settings"))));
    ::testing::internal::CaptureStderr();
    const auto read = read_lora(both, TextAdapters::kSkip).layers;
    EXPECT_THAT(::testing::internal::GetCapturedStderr(),
                HasSubstr(fmt::format("skipped 1 adapters of text encoders: {}", name)));
    EXPECT_LT(relative_error(output(read), output(layers)), 1e-6);
    ExportOptions o;
    o.lora = both;
    o.out = folder / fmt::format("{}_out", name_of(layout));
    EXPECT_THAT(message_of([&] { export_lora(o); }), HasSubstr("--lora-text-encoders skip"));
    o.lora_text_encoders = TextAdapters::kSkip;
    EXPECT_THAT(export_lora(o), HasSubstr("2 tensors, 1 layers"));
  }
}

// ComfyUI's way: the original network's names, or diffusers', behind "diffusion_model.".
TEST_F(LoraFormats, ThePrefixDiffusionModelIsReadBeforeKnownNames) {
  const auto layers = trained_everywhere();
  write_lora(folder / "kohya.safetensors", layers, LoraLayout::kKohya, at::kFloat);
  const std::vector<std::pair<std::string, std::string>> dotted{
      {"lora_unet_", "diffusion_model."},
      {"joint_blocks_", "joint_blocks."},
      {"_x_block_", ".x_block."},
      {"_context_block_", ".context_block."},
      {"attn_", "attn."},
      {"mlp_", "mlp."},
      {"final_layer_", "final_layer."},
      {"t_embedder_", "t_embedder."},
      {"y_embedder_", "y_embedder."},
      {"adaLN_modulation_", "adaLN_modulation."}};
  TensorList original, prefixed;
  for (const auto& [name, tensor] : SafetensorsFile(folder / "kohya.safetensors").views()) {
    std::string key = name;
    for (const auto& [from, to] : dotted) {
      if (const size_t at = key.find(from); at != std::string::npos)
        key.replace(at, from.size(), to);
    }
    original.emplace_back(key, tensor.clone());
  }
  EXPECT_TRUE(std::any_of(original.begin(), original.end(), [](const auto& t) {
    return t.first == "diffusion_model.joint_blocks.0.x_block.attn.qkv.lora_down.weight";
  }));
  for (const LoraLayer& layer : layers) {
    prefixed.emplace_back("diffusion_model." + layer.path + ".lora_A.weight", layer.a.detach());
    prefixed.emplace_back("diffusion_model." + layer.path + ".lora_B.weight",
                          layer.b.detach() * layer.scale);
  }
  for (const TensorList& tensors : {original, prefixed}) {
    write_safetensors(folder / "prefixed.safetensors", tensors);
    EXPECT_LT(
        relative_error(output(read_lora(folder / "prefixed.safetensors").layers), output(layers)),
        1e-5);
  }
  prefixed.emplace_back("diffusion_model.double_blocks.0.img_attn.qkv.lora_A.weight",
                        at::ones({1, 16}));
  prefixed.emplace_back("diffusion_model.double_blocks.0.img_attn.qkv.lora_B.weight",
                        at::ones({16, 1}));
  write_safetensors(folder / "prefixed.safetensors", prefixed);
  EXPECT_THAT(
      message_of([&] { read_lora(folder / "prefixed.safetensors"); }),
      HasSubstr("'diffusion_model.double_blocks.0.img_attn.qkv' is no linear layer of the MMDiT"));
}

TEST_F(LoraFormats, SettingsThatAreNotPlainLoraAreRefused) {
  const fs::path path = folder / "a.safetensors";
  const std::string q = "transformer.transformer_blocks.0.attn.to_q.";
  const auto with = [&](const std::string& settings) {
    write_safetensors(
        path, {{q + "lora_A.weight", at::ones({2, 16})}, {q + "lora_B.weight", at::ones({16, 2})}},
        {{"lora_adapter_metadata", settings}});
    return message_of([&] { read_lora(path); });
  };
  EXPECT_EQ(with(R"({"transformer.r": 2, "transformer.lora_alpha": 4})"), "no error");
  EXPECT_EQ(read_lora(path).layers[0].scale, 2.0);
  EXPECT_THAT(with(R"({"transformer.r": 4})"),
              HasSubstr("has rank 4 by its settings and 2 by its tensors"));
  EXPECT_THAT(
      with(R"({"transformer.use_dora": true})"),
      HasSubstr("use_dora = true: DoRA, which scales the sum's columns, which is not read"));
  EXPECT_THAT(with(R"({"transformer.lora_alpha": "high"})"),
              HasSubstr("expected a number for the setting 'lora_alpha', got \"high\""));
  EXPECT_THAT(with(R"({"transformer.alpha_pattern": {"(?<=x)to_q": 3}})"),
              HasSubstr("by the regular expression '(?<=x)to_q', which is not read"));
  EXPECT_THAT(with("not json"), HasSubstr("lora_adapter_metadata is not JSON"));
}

TEST_F(LoraFormats, FoldersAndNetworksThatDoNotFitAreRefused) {
  EXPECT_THAT(message_of([&] { read_lora(folder); }),
              HasSubstr("is a folder without adapter_model.safetensors (PEFT)"));
  EXPECT_THAT(message_of([&] { read_lora(folder / "absent.safetensors"); }),
              HasSubstr("cannot open"));
  const auto layers =
      trained({.rank = 2, .alpha = 2, .targets = {"transformer_blocks.*.attn.to_q"}});
  write_lora(folder / "peft", layers, LoraLayout::kPeft, at::kFloat);
  EXPECT_EQ(read_lora(folder / "peft" / "adapter_model.safetensors").layers.size(), 3u);
  fs::remove(folder / "peft" / "adapter_config.json");
  EXPECT_THAT(message_of([&] { read_lora(folder / "peft"); }),
              HasSubstr("no adapter_config.json lies beside it"));
  Mmdit small({.sample_size = 8,
               .channels = 4,
               .patch_size = 2,
               .layers = 2,
               .heads = 2,
               .head_dim = 4,
               .context_dim = 12,
               .pooled_dim = 10,
               .pos_embed_max = 6});
  EXPECT_THAT(
      message_of([&] { LoraSet(small, layers); }),
      AllOf(HasSubstr("3 of 3 adapters do not fit the network"),
            HasSubstr("no layer 'transformer_blocks.2.attn.to_q' (near: "),
            HasSubstr("'transformer_blocks.0.attn.to_q' is a layer 8 -> 8, its adapter 16 -> 16")));
}

// ---- the trainer's files and the export command
// --------------------------------------------------------------------------

TEST_F(LoraFormats, ATrainedScaleIsFoldedIntoTheTrainersFile) {
  const LoraOptions options{.rank = 2, .alpha = 6, .targets = {"transformer_blocks.*.attn.to_q"}};
  LoraSet set(net, options, 1);
  for (const NamedTensor& p : set.parameters()) *p.tensor = p.tensor->detach() + 0.1;
  const auto layers = set.adapters();
  const fs::path path = folder / "lora.safetensors";
  save_lora(path, set, options, {});
  EXPECT_THAT(SafetensorsFile(path).metadata().at("lora_adapter_metadata"),
              HasSubstr("\"transformer.lora_alpha\":2"));
  EXPECT_THAT(SafetensorsFile(path).metadata().at("vggflow.trained_as"), HasSubstr("\"alpha\":6"));
  EXPECT_LT(relative_error(output(read_lora(path).layers), output(layers)), 1e-6);
  EXPECT_DOUBLE_EQ(read_lora(path).layers[0].scale, 1);
  EXPECT_LT(relative_error(read_lora(path).layers[0].b, 3 * layers[0].b), 1e-6);
}

class LoraExport : public LoraFormats {
 protected:
  LoraExport() {
    NanoOptions options;
    options.text_width = 12;
    options.network = {.sample_size = 8,
                       .channels = 3,
                       .patch_size = 4,
                       .layers = 2,
                       .heads = 2,
                       .head_dim = 8,
                       .context_dim = 12,
                       .pooled_dim = 12,
                       .pos_embed_max = 2};
    NanoModel nano(options, Vocabulary({"red heart", "ghost"}, 4));
    uint64_t id = 0;
    for (const NamedTensor& p : nano.parameters())
      *p.tensor = 0.2 * keyed_normal(4, Purpose::kTest, 0, id++, 1, p.tensor->sizes()).squeeze(0);
    nano.save(folder / "nano", {}, at::kFloat);
    LoraSet set(nano.transformer,
                {.rank = 2,
                 .alpha = 4,
                 .targets = {"transformer_blocks.*.attn.to_*", "transformer_blocks.*.ff.net.2"}},
                1);
    for (const NamedTensor& p : set.parameters())
      *p.tensor = 0.3 * keyed_normal(4, Purpose::kTest, 0, id++, 1, p.tensor->sizes()).squeeze(0);
    layers = set.adapters();
    write_lora(folder / "lora.safetensors", layers, LoraLayout::kDiffusers, at::kFloat);
  }
  ExportOptions options(const std::string& out, const std::string& format,
                        const std::string& dtype = "fp32") const {
    ExportOptions o{.lora = (folder / "lora.safetensors").string(),
                    .out = (folder / out).string(),
                    .base = {.model = (folder / "nano").string()}};
    apply_override(fields_of(o), "format=" + format);
    apply_override(fields_of(o), "dtype=" + dtype);
    return o;
  }
  std::vector<LoraLayer> layers;
};

TEST_F(LoraExport, WritesEveryLayoutFromEveryLayout) {
  std::string source = "lora.safetensors";
  int step = 0;
  for (const char* format : {"kohya", "peft", "diffusers", "kohya", "diffusers"}) {
    ExportOptions o = options(fmt::format("step_{}", ++step), format);
    o.lora = (folder / source).string();
    EXPECT_THAT(export_lora(o), AllOf(HasSubstr(fmt::format("{}, fp32", format)),
                                      HasSubstr("the network's output by")));
    EXPECT_EQ(name_of(read_lora(o.out).layout), std::string(format));
    source = fs::path(o.out).filename();
  }
  const auto nano = NanoModel::load(folder / "nano", at::kFloat);
  const Denoiser denoise = [&](const auto& adapters) { return probe_velocity(*nano, adapters); };
  EXPECT_LT(relative_error(denoise(read_lora(folder / source).layers), denoise(layers)), 1e-5);
  EXPECT_GT(relative_error(denoise(layers), denoise({})), 1e-2);
}

TEST_F(LoraExport, AMergedModelFolderIsTheAdaptedModelWithoutAnAdapter) {
  const auto nano = NanoModel::load(folder / "nano", at::kFloat);
  const Tensor want = probe_velocity(*nano, layers);
  for (const auto& [dtype, bound] : {std::pair{"fp32", 1e-5}, {"fp16", 2e-3}, {"bf16", 2e-2}}) {
    const ExportOptions o = options(std::string("merged_") + dtype, "merged", dtype);
    EXPECT_THAT(export_lora(o), HasSubstr("weights read back exactly"));
    const auto merged = NanoModel::load(o.out, at::kFloat);
    EXPECT_LT(relative_error(probe_velocity(*merged), want), bound) << dtype;
    EXPECT_EQ(merged->vocabulary.serialize(), nano->vocabulary.serialize());
    EXPECT_EQ(
        SafetensorsFile(fs::path(o.out) / "model.safetensors").metadata().at("vggflow.merged_lora"),
        "lora.safetensors");
  }
}

// A value that fp16 rounds to nothing, and adapters whose change bf16 drowns: the name stays free
// for another try.
TEST_F(LoraExport, AFailedExportLeavesNothing) {
  const auto names = [&] {
    std::set<std::string> all;
    for (const auto& entry : fs::directory_iterator(folder)) all.insert(entry.path().filename());
    return all;
  };
  for (LoraLayer& layer : layers) layer.b = layer.b * 1e-8;
  write_lora(folder / "lora.safetensors", layers, LoraLayout::kDiffusers, at::kFloat);
  const auto before = names();
  for (const char* format : {"diffusers", "peft", "kohya"}) {
    EXPECT_THAT(message_of([&] { export_lora(options("x", format, "fp16")); }),
                HasSubstr("does not read back as written"))
        << format;
    EXPECT_EQ(names(), before) << format;
    EXPECT_THAT(export_lora(options(fmt::format("x_{}", format), format, "fp32")),
                HasSubstr("wrote "))
        << format;
    fs::remove_all(folder / fmt::format("x_{}", format));
  }
  for (LoraLayer& layer : layers) layer.b = layer.b * 3e4;
  write_lora(folder / "lora.safetensors", layers, LoraLayout::kDiffusers, at::kFloat);
  EXPECT_THAT(message_of([&] { export_lora(options("x", "merged", "bf16")); }),
              HasSubstr("it would drown; nothing is written"));
  EXPECT_EQ(names(), before);
}

TEST_F(LoraExport, RefusesWhatItCannotDo) {
  for (const char* format : {"peft", "merged"}) {
    EXPECT_THAT(message_of([&] { export_lora(options("x.safetensors", format)); }),
                HasSubstr("x.safetensors reads as the name of a file, but"))
        << format;
  }
  EXPECT_FALSE(fs::exists(folder / "x.safetensors"));
  EXPECT_THAT(message_of([&] { export_lora(options("lora.safetensors", "kohya")); }),
              HasSubstr("exists already: choose another name or remove it"));
  EXPECT_THAT(
      message_of([&] { export_lora(options("x", "onnx")); }),
      HasSubstr("expected 'format' to be one of diffusers, peft, kohya, merged, got 'onnx'"));
  EXPECT_THAT(message_of([&] { export_lora(options("x", "kohya", "int8")); }),
              HasSubstr("expected 'dtype' to be one of fp32, fp16, bf16, got 'int8'"));
  ExportOptions merged = options("x", "merged");
  merged.base.variant = "fp16";
  EXPECT_THAT(message_of([&] { export_lora(merged); }),
              HasSubstr("is a nano model, which has no sd3.variant"));
  merged = options("x", "merged");
  merged.base.model.clear();
  EXPECT_THAT(message_of([&] { export_lora(merged); }),
              HasSubstr("format merged needs the base model: pass --model FOLDER"));
  EXPECT_FALSE(fs::exists(folder / "x"));
}

}  // namespace
}  // namespace vggflow
