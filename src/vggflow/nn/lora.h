#pragma once
// Low-rank adapters on a network's linear layers. The weights stay as they are: a second view of
// the same network, without adapters, is the base.

#include <string>
#include <vector>

#include "vggflow/nn/module.h"

namespace vggflow {

struct LoraOptions {
  int64_t rank = 8;
  double alpha = 8;  ///< scale = alpha / rank; diffusers expects alpha = rank
  std::vector<std::string>
      targets;  ///< patterns with * over module paths, e.g. "transformer_blocks.*.attn.to_q"
};

/// One adapter as values: adds scale * (x A^T) B^T to the layer at `path`; rank r is A's rows.
struct LoraLayer {
  std::string path;
  Tensor a, b;       ///< (r, in) and (out, r)
  double scale = 1;  ///< alpha / r
  int64_t rank() const { return a.size(0); }
};

/// The adapters attached to one network, in the order of its modules.
class LoraSet {
 public:
  /// Attaches an adapter to every Linear of `network` whose path matches a target: A ~ N(0, 1/rank)
  /// (peft's "gaussian"), B = 0, so a fresh adapter changes nothing. A target that matches no layer
  /// is an error that lists near paths.
  LoraSet(Module& network, const LoraOptions& options, uint64_t seed);
  /// Attaches copies (fp32) of given adapters, each with its own rank and scale. Every one must fit
  /// a Linear of `network`: all that do not are listed in one error.
  LoraSet(Module& network, const std::vector<LoraLayer>& adapters);

  /// Paths of the adapted layers.
  const std::vector<std::string>& paths() const { return paths_; }
  /// Trainable tensors: "<path>.lora_A.weight", "<path>.lora_B.weight".
  std::vector<NamedTensor> parameters() const;
  /// The adapters' present values, on the CPU, at their trained scales.
  std::vector<LoraLayer> adapters() const;
  /// Makes every adapter act with `strength` times its trained scale.
  void set_strength(double strength);
  /// Sets the weights of `other`'s layers, another view of the same network, to weight + scale B A
  /// in the weight's dtype (one rounding). Weights that lie behind one another do so afterwards.
  void merge_into(Module& other) const;
  /// The same of the layers themselves, and takes the adapters off: the set is empty afterwards.
  void bake();

 private:
  std::vector<std::string> paths_;
  std::vector<Linear*> layers_;
  std::vector<double> scales_;  ///< alpha / rank of each layer
};

/// Whether `text` matches `pattern`, in which * stands for any run of characters.
bool matches(const std::string& pattern, const std::string& text);

}  // namespace vggflow
