#include "vggflow/cli/command.h"
#include "vggflow/cli/commands.h"
#include "vggflow/cli/ranks.h"
#include "vggflow/eval/run.h"

namespace vggflow::cli {
namespace {

Syntax syntax() {
  return {.flags = {{"--model", "generator.model"},
                    {"--prompts", "prompts_file"},
                    {"--lora", "generator.lora"},
                    {"--lora-scale", "generator.lora_scale"},
                    {"--negative-prompt", "generator.sd3.negative_prompt"},
                    {"--guidance", "generator.guidance"},
                    {"--steps", "generator.time_grid.steps"},
                    {"--height", "generator.sd3.height"},
                    {"--width", "generator.sd3.width"},
                    {"--images", "images"},
                    {"--seed", "seed"},
                    {"--batch", "batch"},
                    {"--out", "out"}},
          .common = {"prompts", "seeds", "threads", "device", "generator.guide.kind"}};
}

}  // namespace

int sample(const Call& call) {
  SampleConfig config;
  if (!read_settings(call, syntax(), config)) return kDone;
  return on_ranks(config.device, config.dist, fields_of(config),
                  [&](const Group& group) { sample_images(config, group); });
}

}  // namespace vggflow::cli
