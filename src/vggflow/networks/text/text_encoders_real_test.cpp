// The published configurations of SD3's text encoders; the counts are what
// tools/reference/parameter_counts.py printed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "vggflow/networks/clip/clip_text.h"
#include "vggflow/networks/text/t5_encoder.h"

namespace vggflow {
namespace {

class TextEncodersReal : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* assets = std::getenv("VGGFLOW_ASSETS");
    if (!assets)
      GTEST_SKIP() << "left out: the configurations of SD3's text encoders, because VGGFLOW_ASSETS "
                      "is not set";
    folder = std::filesystem::path(assets) / "sd3_config";
  }
  std::filesystem::path folder;
  const ShapesOnly guard;
};

TEST_F(TextEncodersReal, ClipLIsRead) {
  const ClipTextOptions o = ClipTextOptions::read(folder / "text_encoder");
  EXPECT_EQ(ClipTextModel(o).parameter_count(), 123650304);
  EXPECT_EQ(o.projection, 768);
  EXPECT_EQ(o.activation, ClipActivation::kQuickGelu);
  EXPECT_EQ(o.eos_id, 2);
}

TEST_F(TextEncodersReal, ClipGIsRead) {
  const ClipTextOptions o = ClipTextOptions::read(folder / "text_encoder_2");
  EXPECT_EQ(ClipTextModel(o).parameter_count(), 694659840);
  EXPECT_EQ(o.projection, 1280);
  EXPECT_EQ(o.activation, ClipActivation::kGelu);
}

TEST_F(TextEncodersReal, T5IsRead) {
  EXPECT_EQ(T5Encoder(T5Options::read(folder / "text_encoder_3")).parameter_count(), 4762310656);
}

}  // namespace
}  // namespace vggflow
