#pragma once
// CLIP's image embeddings as features of sets of images: CLIP diversity (ViT-B/32), CMMD
// (ViT-L/14-336, Jayasumana et al. 2024).

#include <filesystem>
#include <string>

#include "vggflow/features/feature_network.h"
#include "vggflow/networks/clip/clip_encoders.h"

namespace vggflow {

class ClipFeatures : public FeatureNetwork {
 public:
  /// `unit`: vectors of length 1, as CMMD and cosine diversity have it; else as projected, as
  /// clean-fid's CLIP-FID has it.
  explicit ClipFeatures(const std::filesystem::path& weights, at::ScalarType dtype = at::kFloat,
                        bool unit = true);
  Tensor features(const Tensor& images) const override;
  /// The released tower's name, "clip-vit-b32", with "-projected" for vectors that are not unit;
  /// for other sizes "clip-vit-<width>x<layers>".
  std::string name() const override;
  std::string weights_hash() const override { return hash_; }

 private:
  ClipFeatures(const ClipCheckpoint& checkpoint, at::ScalarType dtype, bool unit);
  bool unit_;
  ClipImageEncoder encoder_;
  std::string hash_;
};

}  // namespace vggflow
