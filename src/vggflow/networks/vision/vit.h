#pragma once
// The vision transformer (Dosovitskiy et al. 2021) as timm builds it, and after it DINO, BLIP and
// DreamSim: pre-norm blocks, one product for queries, keys and values, a class token before the
// patches. Parameter names are theirs, so a checkpoint of any of them loads by name.

#include <memory>
#include <vector>

#include "vggflow/nn/module.h"

namespace vggflow {

/// The defaults are ViT-B/16, DINO's and DreamSim's.
struct VitOptions {
  int64_t image = 224;  ///< side of the images
  int64_t patch = 16;
  int64_t width = 768;  ///< D
  int64_t layers = 12;
  int64_t heads = 12;
  double eps = 1e-6;
  bool quick_gelu = false;  ///< x sigmoid(1.702 x) in place of the exact GELU
  bool pre_norm =
      false;  ///< a norm behind the positions, CLIP's ln_pre; DreamSim's files call it pos_drop
  int64_t tokens() const { return 1 + (image / patch) * (image / patch); }
};

/// x + proj(attention(qkv(norm1(x)))), then x + fc2(gelu(fc1(norm2(x)))), hidden width 4 D.
class VitBlock : public Module {
 public:
  explicit VitBlock(const VitOptions& options);
  /// (B, N, D) to (B, N, D).
  template <TensorLike T>
  T forward(const T& x) const;

  int64_t heads;
  bool quick_gelu;
  LayerNorm norm1, norm2;
  Linear qkv, proj, fc1, fc2;
};

class Vit : public Module {
 public:
  explicit Vit(const VitOptions& options);
  /// Tokens (B, 1 + patches, D), the class token first, of standardised images (B, 3, image,
  /// image), after the last block.
  template <TensorLike T>
  T tokens(const T& images) const;
  /// The same with the final norm.
  template <TensorLike T>
  T forward(const T& images) const {
    return norm.forward(tokens(images));
  }

  VitOptions options;
  bool recompute = false;  ///< blocks keep their inputs alone and run again in the backward pass
                           ///< (nn/checkpoint.h)
  Tensor cls_token;        ///< (1, 1, D)
  Tensor pos_embed;        ///< (1, 1 + patches, D)
  Conv2d patch_embed;
  std::unique_ptr<LayerNorm> pos_drop;
  std::vector<std::unique_ptr<VitBlock>> blocks;
  LayerNorm norm;
};

}  // namespace vggflow
