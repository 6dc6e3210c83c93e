#include "vggflow/train/next_commands.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(NextCommands, PassOnWhatIsNotTheDefault) {
  AlignConfig c;
  c.run = "runs/mine";
  const auto plain = next_commands(c, "runs/mine/lora_ema.safetensors", {});
  ASSERT_EQ(plain.size(), 3u);
  EXPECT_EQ(plain[0].command,
            "vggflow sample out=runs/mine/samples generator.lora=runs/mine/lora_ema.safetensors");
  EXPECT_EQ(plain[1].command,
            "vggflow sweep out=runs/mine/sweep generator.lora=runs/mine/lora_ema.safetensors");
  EXPECT_EQ(plain[2].command,
            "vggflow export runs/mine/lora_ema.safetensors runs/mine/comfyui.safetensors --format "
            "kohya");

  c.run = "runs/my run";
  c.flow.model = "stabilityai/stable-diffusion-3-medium";
  c.flow.sd3.height = 512;
  c.flow.checkpointing = true;
  c.problem.guidance = 4.5;
  c.prompts.eval = "eval.txt";
  const auto all = next_commands(c, "runs/my run/lora_best.safetensors", {"a cat, with a hat"});
  EXPECT_THAT(all[0].command, HasSubstr("'prompts=[\"a cat, with a hat\"]'"));
  EXPECT_THAT(all[0].command, HasSubstr("generator.model=stabilityai/stable-diffusion-3-medium"));
  EXPECT_THAT(all[0].command, HasSubstr("generator.guidance=4.5"));
  EXPECT_THAT(all[0].command, HasSubstr("'generator.lora=\"runs/my run/lora_best.safetensors\"'"));
  EXPECT_THAT(all[0].command, Not(HasSubstr("checkpointing")));
  EXPECT_THAT(all[1].command, HasSubstr("generator.sd3.height=512"));
  EXPECT_THAT(all[1].command, HasSubstr("prompts.eval=eval.txt"));
  EXPECT_THAT(all[1].command, Not(HasSubstr("reward="))) << "the LoRA says what it was trained on";
}

TEST(NextCommands, DrawAsTheRunDoesAndNameRewardsOfTheUsersOwn) {
  AlignConfig c;
  c.problem.guidance = 4.5;
  c.problem.guidance_in = {GuidedCall::kGradient};
  c.reward = "plugin:my.so + colorfulness";
  const auto all = next_commands(c, "lora.safetensors", {});
  EXPECT_THAT(all[0].command, HasSubstr("generator.guidance=1"));
  EXPECT_THAT(all[1].command, HasSubstr("'reward=\"plugin:my.so + colorfulness\"'"))
      << "which is refused from a LoRA's word";
}

TEST(NextCommands, GoOnWithARunWhereItIsNow) {
  const testing::TemporaryFolder folder;
  AlignConfig c;
  c.run = folder.path().string();
  EXPECT_EQ(resume_command(c, folder.path()),
            "vggflow align --config " + (folder / "config.yaml").string() + " resume=true");
  c.run = "another/place";
  c.reward = "plugin:my.so";
  EXPECT_THAT(resume_command(c, folder.path()),
              HasSubstr("resume=true run=" + folder.path().string() + " trust=plugins"));
}

}  // namespace
}  // namespace vggflow
