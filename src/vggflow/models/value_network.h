#pragma once
// The learned part nu_phi(x, t) of the value gradient, conditioned on the prompt and on t. Both kinds start at exactly zero.

#include <memory>

#include "vggflow/core/field.h"
#include "vggflow/models/mmdit.h"

namespace vggflow {

struct ValueOptions {
  std::string kind = "mmdit";
  int64_t width = 64;
  int64_t layers = 2;

  template <class V>
  void fields(V& v) {
    v("kind", kind, "value network nu: a small MMDiT, a small U-Net, or none", choices({"none", "unet", "mmdit"}));
    v("width", width, "its width (a multiple of 32)", range(32, 4096));
    v("layers", layers, "joint blocks, or levels of the U-Net", range(1, 100));
  }
};

class ValueNetwork : public Module {
 public:
  /// nu (B, C, S, S) at x (B, C, S, S) and timestep (B) in [0, 1000].
  virtual Tensor evaluate(const Tensor& x, const Tensor& timestep, const Conditioning& conditioning) const = 0;
  virtual Dual evaluate(const Dual& x, const Dual& timestep, const Conditioning& conditioning) const = 0;
};

/// A value network of the given kind for a policy of the given shape; null for "none".
std::unique_ptr<ValueNetwork> make_value_network(const ValueOptions& options, const MmditOptions& policy, uint64_t seed);

}  // namespace vggflow
