#include "vggflow/eval/score.h"

#include "vggflow/cli/command.h"
#include "vggflow/cli/commands.h"
#include "vggflow/cli/run_folder.h"

namespace vggflow::cli {
namespace {

Syntax syntax() {
  return {.positionals = {{"images", true}},
          .flags = {{"--reward", "rewards"},
                    {"--prompt", "prompt"},
                    {"--out", "out"},
                    {"--size", "size"},
                    {"--batch", "batch"},
                    {"--thumbnails", "thumbnails"},
                    {"--reward-model", "reward_model"},
                    {"--reward-weights", "reward_weights"}},
          .common = {"threads", "device"},
          .required = {"images", "rewards"}};
}

}  // namespace

int score(const Call& call) {
  ScoreOptions options;
  if (!read_settings(call, syntax(), options)) return kDone;
  const auto device = open_device(options.device);
  run_score(options);
  return kDone;
}

}  // namespace vggflow::cli
