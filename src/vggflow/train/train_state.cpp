#include "vggflow/train/train_state.h"

#include <ATen/core/Tensor.h>

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <type_traits>

#include "vggflow/core/error.h"

namespace vggflow {

TrainState::TrainState(const std::vector<NamedTensor>& policy_parameters,
                       const AdamWOptions& policy_options, double ema_decay,
                       const std::vector<NamedTensor>& value_parameters,
                       const AdamWOptions& value_options, std::optional<double> lag)
    : policy(policy_parameters, policy_options), ema(policy.buffer, ema_decay) {
  if (lag) lagged = Lagged{policy.buffer.values().clone(), 0, *lag};
  if (!value_parameters.empty()) value.emplace(value_parameters, value_options);
}

void TrainState::Lagged::update(const ParameterBuffer& policy) {
  const double decay = std::min(most, 0.01 * static_cast<double>(updates++));
  values.mul_(decay).add_(policy.values(), 1 - decay);
}

void TrainState::zero_grad() {
  policy.buffer.zero_grad();
  if (value) value->buffer.zero_grad();
}

// The one list of what a checkpoint holds: tensors by their name in the file, counters by their key
// in its header.
template <class Self, class Visit>
void TrainState::walk(Self& s, Visit visit) {
  visit("policy", s.policy.buffer.values());
  visit("policy_ema", s.ema.values);
  visit("policy_m", s.policy.adamw.m);
  visit("policy_v", s.policy.adamw.v);
  visit("policy_steps", s.policy.adamw.steps);
  visit("ema_updates", s.ema.updates);
  if (s.lagged) {
    visit("policy_lagged", s.lagged->values);
    visit("lagged_updates", s.lagged->updates);
  }
  if (!s.value) return;
  visit("value", s.value->buffer.values());
  visit("value_m", s.value->adamw.m);
  visit("value_v", s.value->adamw.v);
  visit("value_steps", s.value->adamw.steps);
}

void TrainState::save(Checkpoint& checkpoint) const {
  walk(*this, [&](const char* name, const auto& entry) {
    if constexpr (std::is_same_v<std::decay_t<decltype(entry)>, int64_t>) {
      checkpoint.metadata[name] = fmt::to_string(entry);
    } else {
      checkpoint.tensors.emplace_back(name, entry);
    }
  });
}

void TrainState::load(const Checkpoint& checkpoint) {
  walk(*this, [&](const char* name, auto& entry) {
    if constexpr (std::is_same_v<std::decay_t<decltype(entry)>, int64_t>) {
      entry = checkpoint_number(checkpoint, name);
    } else {
      entry.copy_(checkpoint_tensor(checkpoint, name, entry));
    }
  });
}

}  // namespace vggflow
