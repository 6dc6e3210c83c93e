#pragma once
// What an MMDiT is made of: the sizes of our own models, and of Stable Diffusion 3 and 3.5 from
// diffusers' transformer/config.json.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "vggflow/core/field.h"

namespace vggflow {

struct MmditOptions {
  int64_t sample_size =
      32;                ///< height and width of x in training: the position grid is scaled to it
  int64_t channels = 3;  ///< of x and of the prediction
  int64_t patch_size = 4;
  int64_t layers = 6;  ///< joint blocks; the last one updates the image stream only
  int64_t heads = 5;
  int64_t head_dim = 32;     ///< width D = heads * head_dim
  int64_t context_dim = 96;  ///< of the text tokens
  int64_t pooled_dim = 96;
  int64_t pos_embed_max = 8;  ///< side of the stored sin-cos grid, cropped to the centre: x has at
                              ///< most this many patches a side
  bool qk_norm = false;       ///< RMSNorm of queries and keys per head (SD3.5)
  std::vector<int64_t> dual_attention_layers =
      {};  ///< blocks with a second attention among the image tokens (SD3.5-medium)
  int64_t width() const { return heads * head_dim; }
  bool is_dual(int64_t layer) const;

  template <class V>
  void fields(V& v) {
    v("sample_size", sample_size, "height and width of x, in latent pixels");
    v("channels", channels, "channels of x");
    v("patch_size", patch_size, "side of a patch");
    v("layers", layers, "joint blocks");
    v("heads", heads, "attention heads");
    v("head_dim", head_dim, "channels of a head; the width is heads * head_dim");
    v("context_dim", context_dim, "channels of a text token");
    v("pooled_dim", pooled_dim, "channels of the pooled text");
    v("pos_embed_max", pos_embed_max, "side of the stored sin-cos position grid");
    v("qk_norm", qk_norm, "RMSNorm of queries and keys per head, as in SD3.5");
    v("dual_attention_layers", dual_attention_layers,
      "blocks with a second attention among the image tokens, as in SD3.5-medium");
  }
};

/// Throws for sizes that no network can have: sides that do not divide, a grid smaller than
/// sample_size, a dual layer that is no layer.
void check_mmdit_options(const MmditOptions& options);

/// The options in diffusers' transformer/config.json; what it leaves out has diffusers' default.
/// Keys that are not SD3Transformer2DModel's and values that this network does not have (another
/// qk_norm, out_channels other than in_channels) are refused.
MmditOptions mmdit_options_from_json(const nlohmann::json& config);

}  // namespace vggflow
