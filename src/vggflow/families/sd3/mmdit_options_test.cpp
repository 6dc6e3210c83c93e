// transformer/config.json of the released transformers: their published numbers, and what is
// refused.
#include "vggflow/families/sd3/mmdit_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::message_of;

// stabilityai/stable-diffusion-3.5-medium.
json sd35_medium() {
  return json::parse(
      R"({"_class_name": "SD3Transformer2DModel", "_diffusers_version": "0.31.0.dev0", "attention_head_dim": 64,
    "caption_projection_dim": 1536, "dual_attention_layers": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], "in_channels": 16,
    "joint_attention_dim": 4096, "num_attention_heads": 24, "num_layers": 24, "out_channels": 16, "patch_size": 2,
    "pooled_projection_dim": 2048, "pos_embed_max_size": 384, "qk_norm": "rms_norm", "sample_size": 128})");
}

// stabilityai/stable-diffusion-3.5-large.
json sd35_large() {
  return json::parse(
      R"({"_class_name": "SD3Transformer2DModel", "attention_head_dim": 64, "caption_projection_dim": 2432,
    "dual_attention_layers": [], "in_channels": 16, "joint_attention_dim": 4096, "num_attention_heads": 38, "num_layers": 38,
    "out_channels": 16, "patch_size": 2, "pooled_projection_dim": 2048, "pos_embed_max_size": 192, "qk_norm": "rms_norm", "sample_size": 128})");
}

std::string refusal(const std::string& key, const json& value) {
  json config = sd35_medium();
  config[key] = value;
  return message_of([&] { mmdit_options_from_json(config); });
}

TEST(MmditOptions, ReadSd35Medium) {
  const MmditOptions o = mmdit_options_from_json(sd35_medium());
  EXPECT_EQ(o.sample_size, 128);
  EXPECT_EQ(o.channels, 16);
  EXPECT_EQ(o.patch_size, 2);
  EXPECT_EQ(o.layers, 24);
  EXPECT_EQ(o.heads, 24);
  EXPECT_EQ(o.head_dim, 64);
  EXPECT_EQ(o.width(), 1536);
  EXPECT_EQ(o.context_dim, 4096);
  EXPECT_EQ(o.pooled_dim, 2048);
  EXPECT_EQ(o.pos_embed_max, 384);
  EXPECT_TRUE(o.qk_norm);
  EXPECT_THAT(o.dual_attention_layers, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12));
  EXPECT_TRUE(o.is_dual(12));
  EXPECT_FALSE(o.is_dual(13));
}

TEST(MmditOptions, ReadSd35Large) {
  const MmditOptions o = mmdit_options_from_json(sd35_large());
  EXPECT_EQ(o.layers, 38);
  EXPECT_EQ(o.heads, 38);
  EXPECT_EQ(o.width(), 2432);
  EXPECT_EQ(o.pos_embed_max, 192);
  EXPECT_TRUE(o.qk_norm);
  EXPECT_THAT(o.dual_attention_layers, IsEmpty());
}

TEST(MmditOptions, WhatAConfigLeavesOutHasTheDefaultOfDiffusers) {
  const MmditOptions o = mmdit_options_from_json(json::object());
  EXPECT_EQ(o.sample_size, 128);
  EXPECT_EQ(o.patch_size, 2);
  EXPECT_EQ(o.channels, 16);
  EXPECT_EQ(o.layers, 18);
  EXPECT_EQ(o.heads, 18);
  EXPECT_EQ(o.head_dim, 64);
  EXPECT_EQ(o.context_dim, 4096);
  EXPECT_EQ(o.pooled_dim, 2048);
  EXPECT_EQ(o.pos_embed_max, 96);
  EXPECT_FALSE(o.qk_norm);
  EXPECT_THAT(o.dual_attention_layers, IsEmpty());
}

TEST(MmditOptions, NullMeansNoNormAndAsManyChannelsOutAsIn) {
  json config = sd35_medium();
  config["qk_norm"] = nullptr;
  config["out_channels"] = nullptr;
  config["in_channels"] = 8;
  const MmditOptions o = mmdit_options_from_json(config);
  EXPECT_FALSE(o.qk_norm);
  EXPECT_EQ(o.channels, 8);
}

TEST(MmditOptions, RefuseWhatThisNetworkIsNot) {
  EXPECT_THAT(refusal("qk_norm", "layer_norm"),
              HasSubstr("expected qk_norm to be null or \"rms_norm\", which is what SD3 and SD3.5 "
                        "have, got \"layer_norm\""));
  EXPECT_THAT(
      refusal("_class_name", "FluxTransformer2DModel"),
      HasSubstr("expected the class SD3Transformer2DModel, got \"FluxTransformer2DModel\""));
  EXPECT_THAT(refusal("guidance_embeds", true),
              HasSubstr("'guidance_embeds' is not a setting of SD3Transformer2DModel"));
  EXPECT_THAT(refusal("out_channels", 32),
              HasSubstr("expected out_channels to equal in_channels 16, as a velocity has the "
                        "channels of x, got 32"));
  EXPECT_THAT(refusal("caption_projection_dim", 1152),
              HasSubstr("expected caption_projection_dim to be the width num_attention_heads * "
                        "attention_head_dim = 1536, got 1152"));
}

TEST(MmditOptions, RefuseWhatIsNoSize) {
  EXPECT_THAT(refusal("num_layers", 0),
              HasSubstr("expected num_layers to be a whole number of at least 1, got 0"));
  EXPECT_THAT(refusal("num_layers", 2.5),
              HasSubstr("expected num_layers to be a whole number of at least 1, got 2.5"));
  EXPECT_THAT(refusal("patch_size", "two"),
              HasSubstr("expected patch_size to be a whole number of at least 1, got \"two\""));
  EXPECT_THAT(refusal("sample_size", 129),
              HasSubstr("expected sample_size a multiple of patch_size"));
  EXPECT_THAT(refusal("pos_embed_max_size", 32), HasSubstr("a position grid of at least 64"));
  EXPECT_THAT(refusal("dual_attention_layers", {0, 24}),
              HasSubstr("expected dual_attention_layers among the 24 layers 0 to 23, got 24"));
  EXPECT_THAT(refusal("dual_attention_layers", 3),
              HasSubstr("expected dual_attention_layers to be a list of blocks, got 3"));
  EXPECT_THAT(
      refusal("dual_attention_layers", {"a"}),
      HasSubstr("dual_attention_layers' entries to be a whole number of at least 0, got \"a\""));
  EXPECT_THAT(message_of([] { mmdit_options_from_json(json::array()); }),
              HasSubstr("config.json: expected an object, got array"));
}

}  // namespace
}  // namespace vggflow
