// The published transformer/config.json of Stable Diffusion 3.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "vggflow/families/sd3/mmdit_options.h"

namespace vggflow {
namespace {

TEST(MmditOptionsReal, ReadSd3Medium) {
  const char* assets = std::getenv("VGGFLOW_ASSETS");
  if (!assets) GTEST_SKIP() << "left out: SD3's config.json, because VGGFLOW_ASSETS is not set";
  const auto file = std::filesystem::path(assets) / "sd3_config/transformer/config.json";
  ASSERT_TRUE(std::filesystem::exists(file)) << file;
  std::ifstream in(file);
  const MmditOptions o = mmdit_options_from_json(nlohmann::json::parse(in));
  EXPECT_EQ(o.sample_size, 128);
  EXPECT_EQ(o.channels, 16);
  EXPECT_EQ(o.patch_size, 2);
  EXPECT_EQ(o.layers, 24);
  EXPECT_EQ(o.heads, 24);
  EXPECT_EQ(o.head_dim, 64);
  EXPECT_EQ(o.context_dim, 4096);
  EXPECT_EQ(o.pooled_dim, 2048);
  EXPECT_EQ(o.pos_embed_max, 192);
  EXPECT_FALSE(o.qk_norm);
  EXPECT_THAT(o.dual_attention_layers, ::testing::IsEmpty());
}

}  // namespace
}  // namespace vggflow
