#pragma once
// The network of ImageReward (Xu et al. 2023, arXiv 2304.05977): BLIP's ViT-L/16 and its text
// encoder, then a stack of linear layers on the text's first token. Parameter names are those of
// ImageReward.pt.

#include <filesystem>
#include <memory>
#include <vector>

#include "vggflow/networks/text/blip_text.h"
#include "vggflow/networks/vision/vit.h"

namespace vggflow {

struct ImageRewardOptions {
  VitOptions vision{.width = 1024, .layers = 24, .heads = 16};
  BlipTextOptions text;
  std::vector<int64_t> mlp{1024, 128, 64, 16};  ///< widths between the text's and 1
};

class ImageRewardNetwork : public Module {
 public:
  explicit ImageRewardNetwork(const ImageRewardOptions& options);
  /// From the package's file (ImageReward.pt, or the same tensors as safetensors). What the network
  /// has no use for is passed over, as the package does: the file holds BLIP's contrastive
  /// projections too.
  static std::unique_ptr<ImageRewardNetwork> load(const std::filesystem::path& file,
                                                  const ImageRewardOptions& options = {});
  /// Scores (B) of standardised images (B, 3, 224, 224): (mlp(text, image) - mean) / deviation over
  /// the authors' validation set.
  template <TensorLike T>
  T score(const TextBatch& text, const T& images) const;

  ImageRewardOptions options;
  Vit visual_encoder;
  BlipTextEncoder text_encoder;
  std::vector<std::unique_ptr<Linear>> mlp;
};

}  // namespace vggflow
