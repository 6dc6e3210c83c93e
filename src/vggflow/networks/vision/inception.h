#pragma once
// The InceptionV3 of the Frechet inception distance: TensorFlow's graph of 2015-12-05 (Szegedy et
// al. 2016) with PyTorch's names, as pytorch-fid and torch-fidelity run it
// (pt_inception-2015-12-05-6726825d.pth). It differs from torchvision's: average pooling does not
// count the zeros around the image, and the last block pools by the maximum, an error of the
// original graph that the metric has inherited.

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "vggflow/networks/vision/conv_layer.h"

namespace vggflow {

/// How images become 299 x 299.
enum class InceptionResize {
  kHalfPixel,    ///< pytorch-fid: bilinear, align_corners=False, not antialiased; pixels to [-1, 1]
  kTensorFlow1,  ///< torch-fidelity and the original graph: TensorFlow 1's bilinear; pixels of
                 ///< 0..255 as (x - 128) / 128
};

enum class BranchPool { kNone, kMean, kMax, kHalve };

/// A pool, convolutions one after the other, then perhaps convolutions side by side.
struct InceptionBranch {
  BranchPool pool = BranchPool::kNone;  ///< kMean and kMax of 3 x 3 around each place; kHalve: the
                                        ///< maximum at stride 2
  std::vector<std::unique_ptr<ConvLayer>> convs, fork;
};

/// Branches of the same input, joined by channels.
struct InceptionBlock {
  std::vector<InceptionBranch> branches;
};

class InceptionV3 : public Module {
 public:
  explicit InceptionV3(InceptionResize resize);
  /// Reads the state dictionary of pytorch-fid or torch-fidelity (as safetensors, or saved by
  /// PyTorch 1.6 or later). Its fc.* is not needed.
  static std::unique_ptr<InceptionV3> load(const std::filesystem::path& file,
                                           InceptionResize resize = InceptionResize::kHalfPixel,
                                           at::ScalarType dtype = at::kFloat);
  /// pool3, (B, 2048), of images (B, 3, H, W) in [0, 1].
  template <TensorLike T>
  T features(const T& images) const;

  InceptionResize resize;
  std::string hash;  ///< of the weights
  std::vector<std::pair<std::string, ConvLayer*>>
      layers;  ///< all convolutions by their names in the file, "Mixed_5b.branch1x1"
  std::vector<std::unique_ptr<ConvLayer>>
      stem;                            ///< three convolutions, a pool, two convolutions, a pool
  std::vector<InceptionBlock> blocks;  ///< Mixed_5b to Mixed_7c

 private:
  class Builder;
};

}  // namespace vggflow
