#include "vggflow/train/monitor.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "vggflow/core/error.h"
#include "vggflow/core/json.h"

namespace vggflow {

std::vector<std::pair<std::string, std::string>> Monitor::weigh(int64_t update,
                                                                const Evaluation& base,
                                                                const Evaluation& now) {
  const auto warnings = complaints(base, now, diversity_floor_);
  if (warnings.empty() && std::isfinite(now.reward.mean) &&
      (!best_ || now.reward.mean > best_->reward))
    best_ = {update, now.reward.mean, now.to_json()};
  return warnings;
}

void Monitor::save(Checkpoint& checkpoint) const {
  if (!best_) return;
  checkpoint.metadata["best"] = Json{
      {"update", best_->update},
      {"reward", best_->reward},
      {"metrics", best_->metrics}}.dump();
}

void Monitor::load(const Checkpoint& checkpoint) {
  const auto found = checkpoint.metadata.find("best");
  if (found == checkpoint.metadata.end()) return;
  const Json json = parse_json(found->second, "the checkpoint's best evaluation");
  best_ = {json.at("update").get<int64_t>(), json.at("reward").get<double>(), json.at("metrics")};
}

void check_same_base(const Json& stored, const Evaluation& now) {
  const auto before = [&](const char* path) {
    const Json value = stored.value(Json::json_pointer(path), Json());
    return value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN();
  };
  // Figures that are no numbers (a reward without a score) tell nothing.
  const auto differ = [](double a, double b, double bound) { return std::abs(a - b) > bound; };
  const double reward = before("/reward/mean"), diversity = before("/diversity/mean"),
               floor = before("/fd_floor");
  constexpr double kTiny = 1e-6;
  VGGFLOW_CHECK(
      !differ(reward, now.reward.mean, 0.1 * now.reward_sd_within_prompt + kTiny) &&
          !differ(diversity, now.diversity.mean, 0.02 * std::abs(diversity) + kTiny) &&
          !differ(floor, now.fd_floor, 0.05 * std::abs(floor) + kTiny),
      "[resume] expected the base model's images of the run's start (reward {:.4g}, diversity "
      "{:.4g}, FD floor {:.4g}), got others (reward {:.4g}, diversity {:.4g}, FD floor {:.4g}): "
      "the "
      "files of the model, the reward or the judge were changed since. Put them back, or start a "
      "new run",
      reward, diversity, floor, now.reward.mean, now.diversity.mean, now.fd_floor);
}

}  // namespace vggflow
