#pragma once
// What an update changes, and a checkpoint therefore holds: the adapters with their optimizer and
// their average, and the value network with its own.

#include <optional>
#include <vector>

#include "vggflow/train/checkpoint.h"
#include "vggflow/train/optimizer.h"

namespace vggflow {

class TrainState {
 public:
  /// The parameters become views of flat buffers. `value` is empty where no value network is
  /// trained.
  TrainState(const std::vector<NamedTensor>& policy, const AdamWOptions& policy_options,
             double ema_decay, const std::vector<NamedTensor>& value,
             const AdamWOptions& value_options, std::optional<double> lag = std::nullopt);

  /// One network's parameters and their optimizer.
  struct Trained {
    Trained(const std::vector<NamedTensor>& parameters, const AdamWOptions& options)
        : buffer(parameters), adamw(buffer, options) {}
    Trained(const Trained&) = delete;
    Trained& operator=(const Trained&) = delete;
    ParameterBuffer buffer;
    AdamW adamw;
  };

  /// The average of the policy's parameters that rollouts follow.
  struct Lagged {
    Tensor values;
    int64_t updates = 0;
    double most = 0;  ///< largest decay
    /// values <- d values + (1 - d) policy, d = min(most, 0.01 updates).
    void update(const ParameterBuffer& policy);
  };

  void zero_grad();
  /// Adds tensors and counters to a checkpoint.
  void save(Checkpoint& checkpoint) const;
  /// Takes them from one; throws where one is absent or of another shape.
  void load(const Checkpoint& checkpoint);

  Trained policy;
  Ema ema;  ///< of the policy's parameters
  std::optional<Lagged> lagged;
  std::optional<Trained> value;

 private:
  template <class Self, class Visit>
  static void walk(Self& state, Visit visit);
};

}  // namespace vggflow
