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

/// What nu is a function of, besides t and the prompt.
enum class ValueInputs {
  kAuto,   ///< kGuess where the method's losses allow it, else kState
  kState,  ///< x
  kGuess   ///< x, and what g is without nu: the estimate of x_1 and the reward's gradient there
};
inline OptionWords<ValueInputs> option_words(ValueInputs) {
  return {
      {"auto", ValueInputs::kAuto}, {"state", ValueInputs::kState}, {"guess", ValueInputs::kGuess}};
}

/// How t enters a network of our own: by sinusoids of this many units from data to noise.
enum class ValueClock {
  kAuto,     ///< kSlow where the method shows nu the guess, else kNetwork
  kNetwork,  ///< 1000, as the flow model's: frequencies up to 1 per unit
  kSlow      ///< 5: no feature changes much between two steps of a grid
};
inline OptionWords<ValueClock> option_words(ValueClock) {
  return {
      {"auto", ValueClock::kAuto}, {"network", ValueClock::kNetwork}, {"slow", ValueClock::kSlow}};
}

struct ValueOptions {
  ValueKind kind = ValueKind::kAuto;
  int64_t width = 64;
  int64_t layers = 2;
  int64_t rank = 8;
  ValueInputs inputs = ValueInputs::kAuto;
  ValueClock clock = ValueClock::kAuto;

  /// kAuto made one of the others. `shows_guess`: Method::shows_guess.
  void resolve(bool shows_guess);

  template <class V>
  void fields(V& v) {
    v("kind", kind,
      "value network nu: a small MMDiT, a small U-Net, the flow model with adapters and its own "
      "output layer (lora), or none; auto: mmdit if the method trains one");
    v("width", width, "width of the value network (a multiple of 32)", range(32, 4096));
    v("layers", layers, "joint blocks, or levels of the U-Net", range(1, 100));
    v("rank", rank, "rank of the adapters for kind=lora, on the policy's target layers",
      range(1, 4096));
    v("inputs", inputs,
      "inputs of nu besides time and prompt: the state, or also the guess (the predicted end point "
      "and the reward gradient there); auto: the guess if the method's losses allow it, else, and "
      "with kind=lora, the state");
    v("clock", clock,
      "time features of mmdit and unet: network (those of the flow model) or slow (sinusoids of 5 "
      "(1 - t)); auto: slow if inputs=auto chose the guess");
  }
};

/// States side by side that its networks take: x, or x, x_1 and G.
int64_t value_states(const ValueOptions& options);

class ValueNetwork : public Module {
 public:
  /// (B, C, S, S) at x (B, C, S, S), or (B, 3 C, S, S) where it sees the guess, and t (B) in [0,
  /// 1].
  virtual Tensor evaluate(const Tensor& x, const Tensor& t,
                          const Conditioning& conditioning) const = 0;
  virtual Dual evaluate(const Dual& x, const Dual& t, const Conditioning& conditioning) const = 0;
  /// What is trained: every parameter, unless the kind shares frozen weights.
  virtual std::vector<NamedTensor> trainable() { return parameters(); }

  std::shared_ptr<PassCounter> passes;  ///< counts calls where set
  bool sees_guess = false;
};

/// What nu is shown of the guess (States::end and States::gradient), (B, C, S, S) each.
struct GuessShown {
  Tensor end, gradient;
};

/// nu: scale * network(x, t), or where the network sees the guess, with m the root mean square of
/// the gradient G of each sample,
///
///   nu = m network([x, x_1, G / m], t).
///
/// nu is then linear in the reward's scale, as g is, and needs no scale of its own.
Tensor value_correction(const ValueNetwork& network, double scale, const Tensor& x, const Tensor& t,
                        const Conditioning& conditioning, const GuessShown& shown);

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
