#include <string>
#include <vector>

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
  bool value_gradient = false;
  std::string figures, reward;
  std::vector<std::string> claims;
  ValueGradientOptions gradient;
  RewardFiles reward_files;
  RewardCheckOptions options;
  DeviceOptions device;

  template <class V>
  void fields(V& v) {
    v("reward", reward,
      "hold this reward against stored scores and differences, instead of the installation");
    v("analytic", analytic,
      "hold every method against closed forms (about a minute), instead of the installation");
    v("value_gradient", value_gradient,
      "hold VGG-Flow's choices of g against the whole adjoint of a model's own trajectories, "
      "instead of the installation");
    v("figures", figures, "folder for the figures of analytic=true");
    v("claims", claims,
      "of analytic=true: the claims whose name holds one of these texts; empty: all");
    device.fields(v);
    reward_files.fields(v);
    options.fields(v);
    v.section("gradient", gradient);
  }
};

Syntax syntax() {
  return {.flags = {{"--analytic", "analytic"},
                    {"--value-gradient", "value_gradient"},
                    {"--figures", "figures"},
                    {"--reward", "reward"},
                    {"--device", "device"}},
          .common = {"reward_weights", "size", "prompts"},
          .notes =
              "Settings gradient.* are of value_gradient=true; all others but analytic, figures, "
              "claims "
              "and those of the device are of reward=NAME."};
}

// What one of the four proofs would ignore without a word.
void check_settings(CheckConfig config) {
  const auto refuse = [](const char* message) { throw UsageError(message); };
  if (config.analytic + config.value_gradient + !config.reward.empty() > 1)
    refuse("[check] expected one of analytic=true, value_gradient=true and reward=NAME, got more");
  if (!config.figures.empty() && !config.analytic)
    refuse("[check] figures belong to analytic=true, which is not set");
  CheckConfig plain;
  plain.analytic = config.analytic;
  plain.value_gradient = config.value_gradient;
  plain.figures = config.figures;
  if (config.analytic) plain.claims = config.claims;
  plain.reward = config.reward;
  if (!config.analytic) plain.device = config.device;
  if (config.value_gradient) {
    plain.gradient = config.gradient;
    plain.reward_files = config.reward_files;
  }
  if (!config.reward.empty()) {
    plain.reward_files = config.reward_files;
    plain.options = config.options;
  }
  const auto ignored = differences(fields_of(config), fields_of(plain));
  if (ignored.empty()) return;
  const std::string owner = ignored.front().starts_with("gradient.")
                                ? "; it belongs to value_gradient=true"
                            : ignored.front() == "claims" ? "; it belongs to analytic=true"
                                                          : "; it belongs to reward=NAME";
  const char* by = config.analytic          ? "analytic=true"
                   : config.value_gradient  ? "value_gradient=true"
                   : !config.reward.empty() ? "reward=NAME"
                                            : "the check of the installation";
  throw UsageError("[check] '" + ignored.front() + "' is not read by " + by +
                   (config.analytic ? "" : owner));
}

}  // namespace

int check(const Call& call) {
  CheckConfig config;
  if (!read_settings(call, syntax(), config)) return kDone;
  check_settings(config);
  if (config.analytic) return check_analytic(config.figures, config.claims) ? kDone : kFailed;
  if (config.reward.empty() && !config.value_gradient)
    config.device.tf32 = false;  // held against double precision
  const auto device = open_device(config.device);
  if (config.value_gradient) {
    check_value_gradient(config.gradient, config.reward_files);
    return kDone;
  }
  const bool ok = config.reward.empty()
                      ? check_installation(*device)
                      : check_reward(config.reward, config.reward_files, config.options);
  return ok ? kDone : kFailed;
}

}  // namespace vggflow::cli
