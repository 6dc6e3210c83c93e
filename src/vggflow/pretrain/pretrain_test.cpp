#include "vggflow/pretrain/pretrain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "vggflow/core/config.h"
#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;
using testing::message_of;

std::string refusal(const std::vector<std::string>& settings) {
  PretrainConfig config;
  for (const std::string& setting : settings) apply_override(fields_of(config), setting);
  return message_of([&] { check_settings_of_target(config); });
}

TEST(Pretrain, TakesTheSettingsOfItsTarget) {
  for (const std::vector<std::string>& settings : std::vector<std::vector<std::string>>{
           {"fit.updates=3", "threads=1", "time_sd=2", "captions.subgroup=0.5"},
           {"latents=x.safetensors", "model.decoder=taesd3", "taesd=folder", "captions.empty=0.5"},
           {"target=emoji-clip", "adversarial=0.5", "clip.embedding=64", "augment.noise=0.5"},
           {"target=judge", "judge.layers=1", "precision=fp32", "data.size=16"},
           {"target=class-head", "head_data.photos=x.zip", "head.size=64", "fit.batch=4"}}) {
    EXPECT_EQ(refusal(settings), "no error") << settings.front();
  }
}

TEST(Pretrain, RefusesASettingThatOnlyOtherTargetsRead) {
  EXPECT_THAT(refusal({"target=judge", "latents=x"}),
              HasSubstr("'latents' is not read by target=judge; it belongs to target=flow"));
  EXPECT_THAT(refusal({"adversarial=1"}),
              HasSubstr("'adversarial' is not read by target=flow; it belongs to "
                        "target=emoji-clip"));
  EXPECT_THAT(refusal({"augment.noise=0.5"}), HasSubstr("target=emoji-clip, target=judge"));
  EXPECT_THAT(refusal({"target=emoji-clip", "precision=fp32"}), HasSubstr("'precision'"));
  EXPECT_THAT(refusal({"target=emoji-clip", "captions.empty=0"}), HasSubstr("'captions.empty'"));
  EXPECT_THAT(refusal({"target=judge", "captions.subgroup=0"}), HasSubstr("'captions.subgroup'"));
  EXPECT_THAT(refusal({"target=class-head", "data.size=16"}), HasSubstr("'data.size'"));
  EXPECT_THAT(refusal({"target=judge", "head.size=64"}), HasSubstr("target=class-head"));
}

TEST(Pretrain, RefusesWhatAFlowModelOfThisDataDoesNotRead) {
  EXPECT_THAT(refusal({"taesd=folder"}), HasSubstr("'taesd' is not read by target=flow"));
  EXPECT_THAT(
      refusal({"latents=x", "model.decoder=taesd3", "data.size=16"}),
      HasSubstr("'data.size' is not read by target=flow with latents; it belongs to target="));
}

}  // namespace
}  // namespace vggflow
