#pragma once
// The learned part nu_phi(x, t) of the value gradient, conditioned on the prompt and on t. Every
// kind starts at exactly zero.

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "vggflow/core/field.h"
#include "vggflow/flow/flow_model.h"

namespace vggflow {

enum class ValueKind {
  kAuto,  ///< kSmall where the method trains one, else kNone
  kNone,
  kUnet,
  kSmall,  ///< a small network of the policy's family
  kLora    ///< the policy's network with adapters and an output layer of its own
};
inline OptionWords<ValueKind> option_words(ValueKind) {
  return {{"auto", ValueKind::kAuto},
          {"none", ValueKind::kNone},
          {"unet", ValueKind::kUnet},
          {"mmdit", ValueKind::kSmall},
          {"lora", ValueKind::kLora}};
}

struct ValueOptions {
  ValueKind kind = ValueKind::kAuto;
  int64_t width = 64;
  int64_t layers = 2;
  int64_t rank = 8;

  template <class V>
  void fields(V& v) {
    v("kind", kind,
      "value network nu: a small MMDiT, a small U-Net, the flow model with adapters and an output "
      "layer of its own, or none; "
      "auto: mmdit where the method trains one");
    v("width", width, "its width (a multiple of 32)", range(32, 4096));
    v("layers", layers, "joint blocks, or levels of the U-Net", range(1, 100));
    v("rank", rank, "rank of lora's adapters, which sit where the policy's do", range(1, 4096));
  }
};

class ValueNetwork : public Module {
 public:
  /// nu (B, C, S, S) at x (B, C, S, S) and t (B) in [0, 1].
  virtual Tensor evaluate(const Tensor& x, const Tensor& t,
                          const Conditioning& conditioning) const = 0;
  virtual Dual evaluate(const Dual& x, const Dual& t, const Conditioning& conditioning) const = 0;
  /// What is trained: every parameter, unless the kind shares frozen weights.
  virtual std::vector<NamedTensor> trainable() { return parameters(); }

  std::shared_ptr<PassCounter> passes;  ///< counts calls where set
};

/// Throws where the network cannot be built for states (C, H, W).
void check_value_options(const ValueOptions& options, const std::vector<int64_t>& state);

/// A value network of the given kind for a policy; null for kNone; kAuto is kSmall, the policy's
/// family at a width and depth of its own. kLora shares the policy's frozen weights (they are held
/// once) and takes `targets` for its adapters; its output layer starts at zero.
std::unique_ptr<ValueNetwork> make_value_network(const ValueOptions& options,
                                                 const FlowNetwork& policy,
                                                 const std::vector<std::string>& targets,
                                                 uint64_t seed);

/// Writes what is trained, with the kind, shape and scale that load_value_network needs: nu = scale
/// * network.
void save_value_network(const std::filesystem::path& file, ValueNetwork& network,
                        const ValueOptions& options, const std::vector<std::string>& targets,
                        double scale);

/// A frozen value network and its scale.
struct LoadedValueNetwork {
  std::unique_ptr<ValueNetwork> network;
  double scale = 1;
};
LoadedValueNetwork load_value_network(const std::filesystem::path& file, const FlowNetwork& policy);

}  // namespace vggflow
