#pragma once
// Single-file checkpoints of Stable Diffusion 3 and 3.5 in the layout of Stability's own code
// ("original": model.diffusion_model.*, first_stage_model.*, text_encoders.*), renamed to
// diffusers' layout. Source: the table of names in the two public codebases (Stability-AI/sd3-ref
// and diffusers' single-file loader). What changes besides names:
//   joint_blocks.N.{x,context}_block.attn.qkv   one matrix of q, k and v (in this order) becomes
//   three final modulations (final_layer and the context of the last block)   (shift, scale)
//   becomes (scale, shift) decoder.up.i   are counted from the image; diffusers counts from the
//   latent mid.attn_1.{q,k,v,proj_out}   1x1 convolutions become matrices text_encoders.clip_l has
//   no projection of its pooled text in these files; as in both codebases it is the identity
//   text_encoders.*.logit_scale   of contrastive training, which no output depends on: the one name
//   that is left out

#include <map>
#include <string>
#include <vector>

#include "vggflow/io/safetensors.h"

namespace vggflow {

/// One tensor of diffusers' layout that an original tensor gives.
struct OriginalTarget {
  enum class Step { kCopy, kThird, kSwapHalves, kMatrix };
  std::string
      component;  ///< "transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3"
  std::string name;
  Step step = Step::kCopy;
  int64_t third = 0;  ///< 0, 1, 2: q, k, v
};

/// How many blocks a checkpoint has; two renamings depend on it.
struct OriginalSizes {
  int64_t joint_blocks = 0;  ///< of the transformer
  int64_t vae_levels = 0;    ///< resolutions of the decoder
};
OriginalSizes original_sizes(const std::vector<std::string>& names);

/// Where the tensor `name` goes: one target, or three for a fused qkv. Empty for a name that is not
/// of this layout.
std::vector<OriginalTarget> original_targets(const std::string& name, const OriginalSizes& sizes);

/// Whether the file is in the original layout.
bool is_sd3_original(const TensorMap& tensors);

/// All tensors by component and diffusers name, as views where nothing has to be reordered. Names
/// of neither layout and tensors whose shape does not allow the step are listed in one error;
/// `origin` names the file.
std::map<std::string, TensorMap> from_sd3_original(const TensorMap& tensors,
                                                   const std::string& origin);

/// One tensor of the original layout and what it is made of: one tensor of diffusers' layout, or q,
/// k and v.
struct OriginalSource {
  std::string name;
  std::vector<OriginalTarget> parts;
};

/// The way back: the original tensors that these ones (names by component) make up. One error lists
/// every name that has no place and every q, k, v that is not complete.
std::vector<OriginalSource> original_sources(
    const std::map<std::string, std::vector<std::string>>& names);

/// The original tensor of its parts' values, in their order; the inverse of what from_sd3_original
/// does.
Tensor to_original(const OriginalSource& source, const std::vector<Tensor>& parts);
/// Its shape, of the parts' shapes.
std::vector<int64_t> original_shape(const OriginalSource& source, std::vector<int64_t> part);

}  // namespace vggflow
