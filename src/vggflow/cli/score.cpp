#include "vggflow/eval/score.h"

#include "vggflow/cli/command.h"
#include "vggflow/cli/commands.h"
#include "vggflow/cli/ranks.h"

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
  return on_ranks(options.device, options.dist, fields_of(options),
                  [&](const Group& group) { run_score(options, group); });
}

}  // namespace vggflow::cli
