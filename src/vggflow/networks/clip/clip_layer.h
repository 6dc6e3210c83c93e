#pragma once
// What the layers of CLIP's two towers are made of, by transformers' names.

#include <string>

#include "vggflow/core/field.h"
#include "vggflow/nn/module.h"

namespace vggflow {

enum class ClipActivation {
  kQuickGelu,  ///< x sigmoid(1.702 x), OpenAI's
  kGelu        ///< the exact one
};
inline OptionWords<ClipActivation> option_words(ClipActivation) {
  return {{"quick_gelu", ClipActivation::kQuickGelu}, {"gelu", ClipActivation::kGelu}};
}
/// Of a configuration's `hidden_act`; `origin` names the file in errors.
ClipActivation clip_activation(const std::string& word, const std::string& origin);

/// Parameters of a pre-norm transformer layer; how it runs is the towers' own.
class ClipLayer : public Module {
 protected:
  /// `Options` has width, mlp_width, heads, eps and activation.
  template <class Options>
  explicit ClipLayer(const Options& o)
      : heads_(o.heads),
        activation_(o.activation),
        layer_norm1_(o.width, o.eps),
        layer_norm2_(o.width, o.eps),
        q_proj_(o.width, o.width),
        k_proj_(o.width, o.width),
        v_proj_(o.width, o.width),
        out_proj_(o.width, o.width),
        fc1_(o.width, o.mlp_width),
        fc2_(o.mlp_width, o.width) {
    add("layer_norm1", layer_norm1_);
    add("self_attn.q_proj", q_proj_);
    add("self_attn.k_proj", k_proj_);
    add("self_attn.v_proj", v_proj_);
    add("self_attn.out_proj", out_proj_);
    add("layer_norm2", layer_norm2_);
    add("mlp.fc1", fc1_);
    add("mlp.fc2", fc2_);
  }

  int64_t heads_;
  ClipActivation activation_;
  LayerNorm layer_norm1_, layer_norm2_;
  Linear q_proj_, k_proj_, v_proj_, out_proj_, fc1_, fc2_;
};

}  // namespace vggflow
