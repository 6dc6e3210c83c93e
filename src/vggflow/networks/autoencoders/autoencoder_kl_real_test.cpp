// The published configuration of SD3's autoencoder.
#include <gtest/gtest.h>

#include <cstdlib>

#include "vggflow/networks/autoencoders/autoencoder_kl.h"

namespace vggflow {
namespace {

TEST(AutoencoderKlReal, ReadsThePublishedConfiguration) {
  const char* assets = std::getenv("VGGFLOW_ASSETS");
  if (!assets)
    GTEST_SKIP() << "left out: SD3's published configuration, because VGGFLOW_ASSETS is not set";
  const auto o =
      AutoencoderKlOptions::read(std::filesystem::path(assets) / "sd3_config/vae/config.json");
  const AutoencoderKlOptions expected;
  EXPECT_EQ(o.widths, expected.widths);
  EXPECT_EQ(o.latent_channels, 16);
  EXPECT_EQ(o.layers, 2);
  EXPECT_EQ(o.groups, 32);
  EXPECT_EQ(o.scaling_factor, 1.5305);
  EXPECT_EQ(o.shift_factor, 0.0609);
  EXPECT_EQ(o.sample_size, 1024);
  EXPECT_EQ(o.downscale(), 8);
}

}  // namespace
}  // namespace vggflow
