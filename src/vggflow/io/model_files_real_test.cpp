// The published folder layout of SD3-medium, without its weights.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "vggflow/io/model_files.h"
#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

TEST(ModelFilesReal, ReadThePublishedIndex) {
  const char* assets = std::getenv("VGGFLOW_ASSETS");
  if (!assets)
    GTEST_SKIP() << "left out: SD3's published model_index.json, because VGGFLOW_ASSETS is not set";
  const auto folder = resolve_model((std::filesystem::path(assets) / "sd3_config").string());
  const ModelIndex index = read_model_index(folder);
  EXPECT_EQ(index.class_name, "StableDiffusion3Pipeline");
  EXPECT_EQ(index.components.size(), 9u);
  EXPECT_EQ(index.components.at("transformer").class_name, "SD3Transformer2DModel");
  EXPECT_FALSE(index.has("tokenizer_3"));  // the T5 tokenizer is kept elsewhere among the assets
  EXPECT_THAT(testing::message_of([&] { open_component(index.at("vae")); }),
              ::testing::HasSubstr("holds no weights: looked for"));
}

}  // namespace
}  // namespace vggflow
