#pragma once
// The image tower of CLIP with its projection (Radford et al. 2021): a pre-norm vision transformer
// over patches and one class token. Parameter names and values are those of transformers'
// CLIPVisionModelWithProjection; clip_checkpoint.h brings the other layouts to them.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "vggflow/networks/clip/clip_layer.h"
#include "vggflow/nn/module.h"

namespace vggflow {

struct ClipVisionOptions {
  int64_t image = 224;  ///< side of the images S
  int64_t patch = 32;   ///< side of a patch; there are N = (S / patch)^2
  int64_t width = 768;  ///< D
  int64_t mlp_width = 3072;
  int64_t layers = 12;
  int64_t heads = 12;
  int64_t projection = 512;  ///< P
  double eps = 1e-5;
  ClipActivation activation = ClipActivation::kQuickGelu;
};

/// The released towers by the names that reports use: clip-vit-b32, -b16, -l14, -l14-336, -h14,
/// -g14, -bigg14.
const std::vector<std::pair<std::string, ClipVisionOptions>>& clip_vision_presets();

/// One of them.
const ClipVisionOptions& clip_vision_preset(const std::string& name);

/// x + attn(norm1(x)), then x + mlp(norm2(x)). x keeps its type; the products run in bf16 where the
/// weights are bf16.
class ClipVisionLayer : public ClipLayer {
 public:
  explicit ClipVisionLayer(const ClipVisionOptions& options) : ClipLayer(options) {}
  template <TensorLike T>
  T forward(const T& x) const;
};

class ClipVisionModel : public Module {
 public:
  explicit ClipVisionModel(const ClipVisionOptions& options);

  /// (B, 1 + N, D), the class token first, after all layers and before the last norm, of
  /// standardised pixels (B, 3, S, S).
  template <TensorLike T>
  T tokens(const T& pixels) const;
  /// (B, P): the class token, normed and projected.
  template <TensorLike T>
  T embed(const T& pixels) const;

  ClipVisionOptions options;
  bool recompute = false;  ///< layers keep their inputs alone and run again in the backward pass
                           ///< (nn/checkpoint.h)

 private:
  template <TensorLike T>
  T embed_patches(const T& pixels) const;
  Tensor class_embedding_, position_embedding_;
  Conv2d patch_embedding_;
  LayerNorm pre_layernorm_, post_layernorm_;
  std::vector<std::unique_ptr<ClipVisionLayer>> layers_;
  Linear visual_projection_;
};

}  // namespace vggflow
