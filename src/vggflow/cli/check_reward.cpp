#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "vggflow/cli/commands.h"
#include "vggflow/cli/run_folder.h"
#include "vggflow/rewards/reward_check.h"

namespace vggflow::cli {
namespace {

struct CheckRewardConfig {
  RewardFiles reward_files;
  RewardCheckOptions check;
  DeviceOptions device;

  template <class V>
  void fields(V& v) {
    reward_files.fields(v);
    check.fields(v);
    device.fields(v);
  }
};

}  // namespace

std::string check_reward_help() {
  CheckRewardConfig config;
  return help_text(fields_of(config));
}

bool check_reward(const std::string& name, const std::vector<std::string>& settings) {
  CheckRewardConfig config;
  read_config(config, {"", settings});
  config.check.low_precision = config.reward_files.reward_dtype == RewardDtype::kBf16;
  const auto device = open_device(config.device);
  const auto reward = make_reward(name, config.reward_files.resources());
  const std::string description = reward->describe();
  fmt::print("{}\npreprocessing: {}\n", name,
             description.empty() ? "the reward does not tell" : description);
  bool ok = true;
  std::vector<std::string> left_out;
  for (const RewardCheckRow& r : vggflow::check_reward(*reward, name, config.check)) {
    const std::string line = fmt::format("  {:<34} {}", r.name, r.found);
    fmt::print("{}\n", r.expected.empty() ? line
                                          : fmt::format("{:<68} {}: {}", line, r.expected,
                                                        r.ok ? "ok" : "FAILED"));
    ok = ok && r.ok;
    if (r.left_out) left_out.push_back(r.name);
  }
  const char* verdict = !ok                ? "this reward does not do what rewards promise"
                        : left_out.empty() ? "everything holds"
                                           : "everything checked holds";
  fmt::print("{}{}\n", verdict,
             left_out.empty() ? "" : fmt::format("; left out: {}", fmt::join(left_out, ", ")));
  return ok;
}

}  // namespace vggflow::cli
