#include "vggflow/page/vote.h"

#include "vggflow/cli/command.h"
#include "vggflow/cli/commands.h"
#include "vggflow/cli/run_folder.h"
#include "vggflow/core/log.h"

namespace vggflow::cli {

int vote(const Call& call) {
  VoteConfig config;
  const Syntax syntax{.positionals = {{"loras", true}},
                      .flags = {{"--model", "generator.model"},
                                {"--prompts", "prompts_file"},
                                {"--lora-scale", "generator.lora_scale"},
                                {"--guidance", "generator.guidance"},
                                {"--steps", "generator.time_grid.steps"},
                                {"--images", "images"},
                                {"--seed", "seed"},
                                {"--out", "out"},
                                {"--port", "port"}},
                      .common = {"prompts", "threads", "device"},
                      .required = {"loras"},
                      .notes = "docs/watch.md shows the page; its votes can become a reward."};
  if (!read_settings(call, syntax, config)) return kDone;
  catch_interrupts();
  const auto device = open_device(config.sample.device);
  vggflow::vote(config);
  return kDone;
}

}  // namespace vggflow::cli
