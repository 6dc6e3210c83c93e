#pragma once
// DINO's and DreamSim's vectors as features of sets of images.

#include <filesystem>
#include <memory>
#include <string>

#include "vggflow/features/feature_network.h"
#include "vggflow/networks/vision/dreamsim.h"

namespace vggflow {

/// DINO ViT-B/16 (Caron et al. 2021): the class token after the last norm, not of length 1.
class DinoFeatures : public FeatureNetwork {
 public:
  /// dino_vitbase16_pretrain.pth, or its tensors in safetensors.
  explicit DinoFeatures(const std::filesystem::path& file, const VitOptions& options = {});
  Tensor features(const Tensor& images) const override;
  std::string name() const override { return "dino-vitb16"; }
  std::string weights_hash() const override { return hash_; }

 private:
  Vit vit_;
  std::string hash_;
};

/// DreamSim's unit vectors: half the squared distance of two of them is the DreamSim distance of
/// their images.
class DreamSimFeatures : public FeatureNetwork {
 public:
  /// The folder that DreamSim::load takes.
  explicit DreamSimFeatures(const std::filesystem::path& folder,
                            const DreamSimOptions& options = {});
  Tensor features(const Tensor& images) const override;
  std::string name() const override { return "dreamsim"; }
  std::string weights_hash() const override { return hash_; }

 private:
  std::unique_ptr<DreamSim> network_;
  std::string hash_;
};

}  // namespace vggflow
