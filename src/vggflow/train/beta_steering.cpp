#include "vggflow/train/beta_steering.h"

#include <algorithm>
#include <cmath>

#include "vggflow/core/error.h"
#include "vggflow/core/json.h"
#include "vggflow/io/jsonl.h"

namespace vggflow {

void BetaSteering::weigh(double energy) {
  if (options_.budget == 0 || !std::isfinite(energy)) return;
  const double over = energy > 0 ? std::log(energy / options_.budget) : -1;
  scale_ = std::min(cap_, scale_ * std::exp(-options_.rate * std::clamp(over, -1.0, 1.0)));
}

void BetaSteering::lower(double factor) {
  cap_ = factor * std::min(cap_, scale_);
  scale_ = cap_;
}

void BetaSteering::save(Checkpoint& checkpoint) const {
  if (scale_ == 1 && cap_ == 1) return;
  checkpoint.metadata["beta"] = Json{{"scale", scale_}, {"cap", cap_}}.dump();
}

void BetaSteering::load(const Checkpoint& checkpoint) {
  const auto found = checkpoint.metadata.find("beta");
  if (found == checkpoint.metadata.end()) return;
  const Json json = parse_json(found->second, "the checkpoint's scale of beta");
  scale_ = json.at("scale").get<double>();
  cap_ = json.at("cap").get<double>();
}

}  // namespace vggflow
