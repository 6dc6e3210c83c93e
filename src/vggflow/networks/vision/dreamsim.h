#pragma once
// DreamSim (Fu et al. 2023, arXiv 2306.09344): a perceptual distance, the cosine distance of the
// joined features of three vision transformers with low-rank adapters trained on human judgements.
// As the dreamsim package 0.2 has it: DINO's class token before its last norm, CLIP's and
// OpenCLIP's (ViT-B/16 both) projected class tokens, joined as they are, then centred over the
// channels and brought to length 1.

#include <filesystem>
#include <memory>

#include "vggflow/networks/vision/vit.h"

namespace vggflow {

struct DreamSimOptions {
  VitOptions dino;
  VitOptions clip{.eps = 1e-5, .quick_gelu = true, .pre_norm = true};
  VitOptions open_clip{.eps = 1e-5, .pre_norm = true};
  int64_t projection = 512;  ///< P
};

/// A CLIP image tower as DreamSim's files have it, the layout of DINO: norm(class token) proj.
class DreamSimClip : public Module {
 public:
  DreamSimClip(const VitOptions& options, int64_t projection);
  /// (B, P) of standardised images.
  template <TensorLike T>
  T embed(const T& images) const;

  Vit model;
  Tensor proj;  ///< (D, P)
};

class DreamSim : public Module {
 public:
  explicit DreamSim(const DreamSimOptions& options);
  /// From the folder that the package keeps its downloads in (cache_dir, "models"), with the
  /// adapters merged into the weights. Read are checkpoints/dino_vitbase16_pretrain.pth,
  /// clip_vitb16_pretrain.pth.tar, open_clip_vitb16_pretrain.pth.tar and ensemble_lora/.
  static std::unique_ptr<DreamSim> load(const std::filesystem::path& folder,
                                        const DreamSimOptions& options = {});

  /// Unit vectors (B, D + 2 P) of images (B, 3, 224, 224) in [0, 1].
  template <TensorLike T>
  T embed(const T& images) const;

  DreamSimOptions options;
  Vit dino;
  DreamSimClip clip, open_clip;
};

/// 1 - <a, b>, (B), of embeddings: 0 for the same image.
template <TensorLike T>
T dreamsim_distance(const T& a, const T& b) {
  return ops::sum(a * b, {-1}, /*keepdim=*/false) * -1.0 + 1.0;
}

}  // namespace vggflow
