// Single-file checkpoints against diffusers' loader: values from
// tools/reference/sd3_original_reference.py.
#include "vggflow/families/sd3/original_names.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <set>

#include "vggflow/core/error.h"
#include "vggflow/families/sd3/lora_names.h"
#include "vggflow/families/sd3/mmdit.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/reference.h"

namespace vggflow {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;

// The tensors of the reference file under `prefix`.
TensorMap reference(const std::string& prefix) {
  static const SafetensorsFile file(testing::models_testdata("sd3_original_reference.safetensors"));
  TensorMap out;
  for (const auto& [name, entry] : file.tensors()) {
    if (name.starts_with(prefix)) out[name.substr(prefix.size())] = file.load(name);
  }
  return out;
}

std::vector<std::string> names_of(const TensorMap& tensors) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors) names.push_back(name);
  return names;
}

TEST(Sd3Original, GivesWhatDiffusersLoaderGives) {
  const auto parts = from_sd3_original(reference("original."), "test");
  for (const std::string component : {"transformer", "vae"}) {
    const TensorMap want = reference("diffusers." + component + ".");
    const TensorMap& got = parts.at(component);
    EXPECT_EQ(names_of(got), names_of(want)) << component;
    for (const auto& [name, tensor] : want) {
      const auto found = got.find(name);
      EXPECT_TRUE(found != got.end() && at::equal(found->second, tensor)) << name;
    }
  }
  EXPECT_EQ(parts.size(), 5u);
  EXPECT_TRUE(parts.at("text_encoder").contains("text_model.embeddings.token_embedding.weight"));
  EXPECT_TRUE(parts.at("text_encoder_2").contains("text_projection.weight"));
  EXPECT_TRUE(parts.at("text_encoder_3").contains("shared.weight"));
}

// ---- a name list of SD3's size, written from Stability's module tree
// ---------------------------------------------------

void with_bias(std::vector<std::string>& names, const std::string& module) {
  names.push_back(module + ".weight");
  names.push_back(module + ".bias");
}

std::vector<std::string> original_names(int64_t blocks, bool qk_norm, int64_t dual_blocks) {
  const std::string root = "model.diffusion_model.";
  std::vector<std::string> names{root + "pos_embed"};
  for (const char* module : {"x_embedder.proj", "t_embedder.mlp.0", "t_embedder.mlp.2",
                             "y_embedder.mlp.0", "y_embedder.mlp.2", "context_embedder",
                             "final_layer.linear", "final_layer.adaLN_modulation.1"}) {
    with_bias(names, root + module);
  }
  for (int64_t i = 0; i < blocks; ++i) {
    for (const std::string side : {"x_block", "context_block"}) {
      const std::string block = fmt::format("{}joint_blocks.{}.{}.", root, i, side);
      const bool pre_only = side == "context_block" && i + 1 == blocks;
      std::vector<std::string> attentions{"attn"};
      if (side == "x_block" && i < dual_blocks) attentions.push_back("attn2");
      for (const std::string& attention : attentions) {
        with_bias(names, block + attention + ".qkv");
        if (!pre_only) with_bias(names, block + attention + ".proj");
        if (qk_norm)
          names.insert(names.end(),
                       {block + attention + ".ln_q.weight", block + attention + ".ln_k.weight"});
      }
      with_bias(names, block + "adaLN_modulation.1");
      if (pre_only) continue;
      with_bias(names, block + "mlp.fc1");
      with_bias(names, block + "mlp.fc2");
    }
  }
  return names;
}

struct Variant {
  const char* name;
  int64_t blocks;
  bool qk_norm;
  int64_t dual_blocks;
};
class Sd3OriginalSizes : public ::testing::TestWithParam<Variant> {};
INSTANTIATE_TEST_SUITE_P(Models, Sd3OriginalSizes,
                         ::testing::Values(Variant{"sd3_medium", 24, false, 0},
                                           Variant{"sd35_large", 38, true, 0},
                                           Variant{"sd35_medium", 24, true, 13}),
                         [](const auto& variant) { return variant.param.name; });

// Every original name gives names of the network, every name of the network is given once: the map
// is a bijection between (name, third) and the parameters. Besides parameters there is pos_embed, a
// buffer of diffusers'.
TEST_P(Sd3OriginalSizes, TheNamesAreABijectionOntoTheNetworksParameters) {
  const Variant& v = GetParam();
  MmditOptions o{.sample_size = 4,
                 .channels = 4,
                 .patch_size = 2,
                 .layers = v.blocks,
                 .heads = 1,
                 .head_dim = 4,
                 .context_dim = 4,
                 .pooled_dim = 4,
                 .pos_embed_max = 4,
                 .qk_norm = v.qk_norm};
  for (int64_t i = 0; i < v.dual_blocks; ++i) o.dual_attention_layers.push_back(i);
  std::multiset<std::string> want{"pos_embed.pos_embed"}, got;
  const Mmdit net(o);
  for (const NamedTensor& p : net.parameters()) want.insert(p.name);
  const auto names = original_names(v.blocks, v.qk_norm, v.dual_blocks);
  const OriginalSizes sizes = original_sizes(names);
  EXPECT_EQ(sizes.joint_blocks, v.blocks);
  for (const std::string& name : names) {
    const auto targets = original_targets(name, sizes);
    EXPECT_EQ(targets.size(), name.find(".qkv.") == std::string::npos ? 1u : 3u) << name;
    for (const OriginalTarget& target : targets) {
      EXPECT_EQ(target.component, "transformer");
      got.insert(target.name);
    }
  }
  EXPECT_EQ(got, want);
}

// LoRA files of kohya's layout name each matrix after its place in the original network.
TEST_P(Sd3OriginalSizes, KohyasNamesAreTheOriginalOnes) {
  const Variant& v = GetParam();
  const auto names = original_names(v.blocks, v.qk_norm, v.dual_blocks);
  const OriginalSizes sizes = original_sizes(names);
  const std::string root = "model.diffusion_model.", end = ".weight";
  size_t layers = 0;
  for (const std::string& name : names) {
    if (!name.ends_with(end) || name.find(".ln_") != std::string::npos ||
        name.find("x_embedder") != std::string::npos)
      continue;
    std::string kohya =
        "lora_unet_" + name.substr(root.size(), name.size() - root.size() - end.size());
    std::replace(kohya.begin(), kohya.end(), '.', '_');
    const auto targets = original_targets(name, sizes);
    for (const OriginalTarget& target : targets) {
      const auto slot = LoraNames({mmdit_lora_names()})
                            .slot(target.name.substr(0, target.name.size() - end.size()));
      ASSERT_TRUE(slot) << target.name;
      EXPECT_EQ(slot->name, kohya);
      EXPECT_EQ(slot->part, target.third) << target.name;
      EXPECT_EQ(slot->parts, std::ssize(targets)) << target.name;
      EXPECT_TRUE(slot->swaps || target.step != OriginalTarget::Step::kSwapHalves) << target.name;
      ++layers;
    }
  }
  // Fourteen layers a block (three less in the last), four in each second attention, seven outside
  // the blocks.
  EXPECT_EQ(layers, static_cast<size_t>(14 * v.blocks - 3 + 4 * v.dual_blocks + 7));
}

TEST(Sd3Original, AFusedProjectionIsSplitIntoQueriesKeysAndValues) {
  const std::string name = "model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight";
  const Tensor qkv = at::arange(18, at::kFloat).view({6, 3});
  const TensorMap transformer = from_sd3_original({{name, qkv}}, "test").at("transformer");
  EXPECT_TRUE(
      at::equal(transformer.at("transformer_blocks.0.attn.to_q.weight"), qkv.narrow(0, 0, 2)));
  EXPECT_TRUE(
      at::equal(transformer.at("transformer_blocks.0.attn.to_v.weight"), qkv.narrow(0, 4, 2)));
  EXPECT_TRUE(is_sd3_original({{name, qkv}}));
  EXPECT_FALSE(is_sd3_original({{"transformer_blocks.0.attn.to_q.weight", qkv}}));
}

// Such files hold CLIP-L without the projection of its pooled text, and each encoder's scale of
// contrastive training.
TEST(Sd3Original, ClipLsMissingProjectionIsTheIdentity) {
  const std::string l = "text_encoders.clip_l.transformer.",
                    g = "text_encoders.clip_g.transformer.",
                    token = "text_model.embeddings.token_embedding.weight";
  TensorMap file{{l + token, at::ones({5, 3}, at::kHalf)},
                 {g + token, at::ones({5, 4})},
                 {"text_encoders.clip_l.logit_scale", at::ones({})}};
  const auto parts = from_sd3_original(file, "test");
  EXPECT_TRUE(
      at::equal(parts.at("text_encoder").at("text_projection.weight"), at::eye(3).to(at::kHalf)));
  EXPECT_EQ(parts.at("text_encoder").size(), 2u);
  EXPECT_FALSE(parts.at("text_encoder_2").contains("text_projection.weight"));
  file[l + "text_projection.weight"] = at::full({3, 3}, 2);
  EXPECT_TRUE(
      at::equal(from_sd3_original(file, "test").at("text_encoder").at("text_projection.weight"),
                at::full({3, 3}, 2)));
}

TEST(Sd3Original, TensorsOutsideTheComponentsAreLeftOutAndSaid) {
  const std::string qkv = "joint_blocks.0.x_block.attn.qkv.weight";
  ::testing::internal::CaptureStderr();
  const auto out = from_sd3_original({{"model.diffusion_model." + qkv, at::ones({6, 2})},
                                      {"model_sampling.sigmas", at::ones({2})},
                                      {"model_ema.decay", at::ones({1})}},
                                     "x.safetensors");
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              HasSubstr("x.safetensors: left out 2 tensors that belong to no component of the "
                        "model: 'model_ema.decay', 'model_sampling.sigmas'"));
  EXPECT_EQ(out.size(), 1u);
  EXPECT_EQ(out.at("transformer").size(), 3u);
}

TEST(Sd3Original, WhatDoesNotBelongIsListedInOneError) {
  const std::string root = "model.diffusion_model.";
  const TensorMap bad{{root + "joint_blocks.0.x_block.attn.qkv.weight", at::ones({4, 2})},
                      {root + "joint_blocks.0.z_block.attn.proj.weight", at::ones({1})},
                      {"first_stage_model.decoder.mid.attn_1.q.weight", at::ones({2, 2, 3, 3})},
                      {"first_stage_model.encoder.down.x.block.0.conv1.weight", at::ones({1})}};
  EXPECT_THAT(
      message_of([&] { from_sd3_original(bad, "file.safetensors"); }),
      AllOf(HasSubstr("[sd3_original] file.safetensors is not in the layout"),
            HasSubstr("attn.qkv.weight' has shape (4, 2), which cannot become"),
            HasSubstr("unknown 'model.diffusion_model.joint_blocks.0.z_block.attn.proj.weight'"),
            HasSubstr("4 faults: "), HasSubstr("attn_1.q.weight' has shape (2, 2, 3, 3)"),
            HasSubstr("unknown 'first_stage_model.encoder.down.x.")));
}

}  // namespace
}  // namespace vggflow
