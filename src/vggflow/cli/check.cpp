#include <string>

#include "vggflow/cli/checks.h"
#include "vggflow/cli/command.h"
#include "vggflow/cli/commands.h"
#include "vggflow/cli/run_folder.h"
#include "vggflow/core/error.h"
#include "vggflow/core/usage_error.h"

namespace vggflow::cli {
namespace {

struct CheckConfig {
  bool analytic = false;
  std::string figures, reward;
  RewardFiles reward_files;
  RewardCheckOptions options;
  DeviceOptions device;

  template <class V>
  void fields(V& v) {
    v("reward", reward,
      "hold this reward against stored scores and differences, instead of the installation");
    v("analytic", analytic,
      "hold every method against closed forms (about a minute), instead of the installation");
    v("figures", figures, "folder for the figures of analytic=true");
    device.fields(v);
    reward_files.fields(v);
    options.fields(v);
  }
};

Syntax syntax() {
  return {
      .flags = {{"--analytic", "analytic"},
                {"--figures", "figures"},
                {"--reward", "reward"},
                {"--device", "device"}},
      .common = {"reward_weights", "size", "prompts"},
      .notes = "All settings but analytic, figures and those of the device are of reward=NAME."};
}

// What one of the three proofs would ignore without a word.
void check_settings(CheckConfig config) {
  const auto refuse = [](const char* message) { throw UsageError(message); };
  if (config.analytic && !config.reward.empty())
    refuse("[check] expected one of analytic=true and reward=NAME, got both");
  if (!config.figures.empty() && !config.analytic)
    refuse("[check] figures belong to analytic=true, which is not set");
  CheckConfig plain;
  plain.analytic = config.analytic;
  plain.figures = config.figures;
  if (!config.analytic) plain.device = config.device;
  if (!config.reward.empty()) return;
  const auto ignored = differences(fields_of(config), fields_of(plain));
  if (ignored.empty()) return;
  throw UsageError("[check] '" + ignored.front() + "' is not read by " +
                   (config.analytic ? "analytic=true"
                                    : "the check of the installation; it belongs to reward=NAME"));
}

}  // namespace

int check(const Call& call) {
  CheckConfig config;
  if (!read_settings(call, syntax(), config)) return kDone;
  check_settings(config);
  if (config.analytic) return check_analytic(config.figures) ? kDone : kFailed;
  if (config.reward.empty()) config.device.tf32 = false;  // held against double precision
  const auto device = open_device(config.device);
  const bool ok = config.reward.empty()
                      ? check_installation(*device)
                      : check_reward(config.reward, config.reward_files, config.options);
  return ok ? kDone : kFailed;
}

}  // namespace vggflow::cli
