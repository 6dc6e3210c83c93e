#pragma once
// Low-rank adapters on a network's linear layers: the base weights stay frozen and shared, adapter
// off = base.

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
  /// The adapters' present values at their trained scales.
  std::vector<LoraLayer> adapters() const;
  /// Switches all adapters; kMerged uses the product of the last merge().
  void set_mode(AdapterMode mode);
  AdapterMode mode() const { return mode_; }
  /// Makes every adapter act with `strength` times its trained scale; a merged product needs
  /// merge() again.
  void set_strength(double strength);
  /// Forms weight + scale B A from the pristine weight, in the weight's dtype (one rounding).
  void merge();
  /// Makes the merged product the layers' own weight and takes the adapters off: the set is empty
  /// afterwards.
  void bake();

 private:
  std::vector<std::string> paths_;
  std::vector<Linear*> layers_;
  std::vector<double> scales_;  ///< alpha / rank of each layer
  AdapterMode mode_ = AdapterMode::kOff;
};

/// Sets a mode for a scope and restores the former one.
class AdapterScope {
 public:
  AdapterScope(LoraSet& set, AdapterMode mode) : set_(set), before_(set.mode()) {
    set_.set_mode(mode);
  }
  ~AdapterScope() { set_.set_mode(before_); }
  AdapterScope(const AdapterScope&) = delete;
  AdapterScope& operator=(const AdapterScope&) = delete;

 private:
  LoraSet& set_;
  AdapterMode before_;
};

/// Whether `text` matches `pattern`, in which * stands for any run of characters.
bool matches(const std::string& pattern, const std::string& text);

}  // namespace vggflow
