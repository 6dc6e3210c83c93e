#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "vggflow/cli/checks.h"
#include "vggflow/core/result.h"

namespace vggflow::cli {
bool check_reward(const std::string& name, const RewardFiles& files, RewardCheckOptions options) {
  options.low_precision = files.reward_dtype == RewardDtype::kBf16;
  const auto reward = make_reward(name, files.resources());
  const std::string description = reward->describe();
  print_result(name);
  print_result("preprocessing: " +
               (description.empty() ? "not described by the reward" : description));
  bool ok = true;
  std::vector<std::string> left_out;
  for (const RewardCheckRow& r : vggflow::check_reward(*reward, name, options)) {
    const std::string line = fmt::format("  {:<34} {}", r.name, r.found);
    print_result(r.expected.empty()
                     ? line
                     : fmt::format("{:<68} {}: {}", line, r.expected, r.ok ? "ok" : "FAILED"));
    ok = ok && r.ok;
    if (r.left_out) left_out.push_back(r.name);
  }
  const char* verdict = !ok                ? "this reward does not do what rewards promise"
                        : left_out.empty() ? "everything holds"
                                           : "everything checked holds";
  print_result(verdict + (left_out.empty()
                              ? std::string()
                              : fmt::format("; left out: {}", fmt::join(left_out, ", "))));
  return ok;
}

}  // namespace vggflow::cli
