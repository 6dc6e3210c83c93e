#include "vggflow/networks/vision/mobilenet.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "vggflow/core/error.h"

namespace vggflow {
namespace {

constexpr double kTorchvisionEps = 1e-5, kTensorFlowEps = 1e-3;
constexpr std::array<double, 3> kImageNetMean{0.485, 0.456, 0.406},
    kImageNetDeviation{0.229, 0.224, 0.225};

ConvShape conv_shape(int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t groups,
                     ConvPadding padding) {
  return {in, out, kernel, kernel, stride, groups, padding, kernel / 2, kernel / 2};
}

int64_t last_channels(const MobileNetOptions& o) {
  return o.stages.empty() ? o.stem : o.stages.back().channels;
}

template <TensorLike T>
T normalised(const T& images, const MobileNetOptions& o) {
  const auto options = primal(images).options();
  const Tensor scale =
      1 / at::tensor(at::ArrayRef<double>(o.deviation), options).view({1, 3, 1, 1});
  return images * scale +
         at::tensor(at::ArrayRef<double>(o.mean), options).view({1, 3, 1, 1}) * -scale;
}

}  // namespace

MobileBlock::MobileBlock(int64_t in, const MobileStage& s, int64_t stride, ConvPadding padding)
    : residual(s.expand > 0 && stride == 1 && in == s.channels) {
  const int64_t inner = std::max<int64_t>(1, s.expand) * in;
  const auto push = [&](const ConvShape& shape, Activation activation) {
    convs.push_back(std::make_unique<ConvLayer>(shape, activation));
    add(fmt::format("convs.{}", convs.size() - 1), *convs.back());
  };
  if (s.expand > 1) push(conv_shape(in, inner, 1, 1, 1, padding), Activation::kRelu6);
  push(conv_shape(inner, inner, s.kernel, stride, inner, padding), Activation::kRelu6);
  push(conv_shape(inner, s.channels, 1, 1, 1, padding),
       s.expand == 0 ? Activation::kRelu6 : Activation::kNone);
}

template <TensorLike T>
T MobileBlock::forward(const T& x) const {
  T y = x;
  for (const auto& conv : convs) y = conv->forward(y);
  return residual ? x + y : y;
}
template Tensor MobileBlock::forward(const Tensor&) const;
template Dual MobileBlock::forward(const Dual&) const;

MobileNet::MobileNet(const MobileNetOptions& o)
    : options(o),
      stem(conv_shape(3, o.stem, 3, 2, 1, o.padding), Activation::kRelu6),
      classifier(o.head > 0 ? o.head : last_channels(o), o.classes) {
  add("stem", stem);
  int64_t in = o.stem;
  for (const MobileStage& stage : o.stages) {
    for (int64_t i = 0; i < stage.repeats; ++i) {
      blocks.push_back(
          std::make_unique<MobileBlock>(in, stage, i == 0 ? stage.stride : 1, o.padding));
      add(fmt::format("blocks.{}", blocks.size() - 1), *blocks.back());
      in = stage.channels;
    }
  }
  if (o.head > 0) {
    head =
        std::make_unique<ConvLayer>(conv_shape(in, o.head, 1, 1, 1, o.padding), Activation::kRelu6);
    add("head", *head);
  }
  add("classifier", classifier);
}

template <TensorLike T>
T MobileNet::features(const T& images) const {
  VGGFLOW_CHECK(primal(images).dim() == 4 && primal(images).size(1) == 3,
                "[mobilenet] expected images (B, 3, H, W), got {}", shape_string(primal(images)));
  T x = stem.forward(normalised(images, options));
  for (const auto& block : blocks) x = block->forward(x);
  if (head) x = head->forward(x);
  return ops::mean(x, {2, 3}, /*keepdim=*/false);
}
template Tensor MobileNet::features(const Tensor&) const;
template Dual MobileNet::features(const Dual&) const;

std::vector<ConvLayer*> MobileNet::convolutions() {
  std::vector<ConvLayer*> all{&stem};
  for (const auto& block : blocks) {
    for (const auto& conv : block->convs) all.push_back(conv.get());
  }
  if (head) all.push_back(head.get());
  return all;
}

// ---- the three networks
// ------------------------------------------------------------------------------------------------

MobileNetOptions mobilenet_v1_options(int64_t classes) {
  return {.stem = 32,
          .stages = {{0, 64, 1, 1},
                     {0, 128, 1, 2},
                     {0, 128, 1, 1},
                     {0, 256, 1, 2},
                     {0, 256, 1, 1},
                     {0, 512, 1, 2},
                     {0, 512, 5, 1},
                     {0, 1024, 1, 2},
                     {0, 1024, 1, 1}},
          .head = 0,
          .classes = classes};
}

MobileNetOptions mobilenet_v2_options(int64_t classes) {
  return {.stem = 32,
          .stages = {{1, 16, 1, 1},
                     {6, 24, 2, 2},
                     {6, 32, 3, 2},
                     {6, 64, 4, 2},
                     {6, 96, 3, 1},
                     {6, 160, 3, 2},
                     {6, 320, 1, 1}},
          .head = 1280,
          .classes = classes};
}

MobileNetOptions efficientnet_lite0_options() {
  return {.stem = 32,
          .stages = {{1, 16, 1, 1},
                     {6, 24, 2, 2},
                     {6, 40, 2, 2, 5},
                     {6, 80, 3, 2},
                     {6, 112, 3, 1, 5},
                     {6, 192, 4, 2, 5},
                     {6, 320, 1, 1}},
          .head = 1280,
          .classes = 1000};
}

// ---- layouts of weights
// ------------------------------------------------------------------------------------------------

namespace {

// Where the n-th convolution's tensors are.
struct ConvNames {
  std::string conv, norm = {};
};

// A layout gives the names of a block's convolutions: block i of the network, j of its stage, k of
// the convolutions.
using BlockNames = std::vector<ConvNames> (*)(size_t block, size_t stage, size_t in_stage,
                                              size_t convs);

struct Layout {
  ConvNames stem, head;
  BlockNames block;
  std::string classifier;
  double eps;
};

std::vector<ConvNames> torchvision_block(size_t block, size_t, size_t, size_t convs) {
  std::vector<ConvNames> names;
  const auto base = fmt::format("features.{}.conv.", block + 1);
  for (size_t k = 0; k + 1 < convs; ++k)
    names.push_back({fmt::format("{}{}.0", base, k), fmt::format("{}{}.1", base, k)});
  names.push_back({fmt::format("{}{}", base, convs - 1), fmt::format("{}{}", base, convs)});
  return names;
}

std::vector<ConvNames> wheel_block(size_t block, size_t, size_t, size_t convs) {
  const auto base = fmt::format("_blocks.{}.", block);
  std::vector<ConvNames> names;
  if (convs == 3) names.push_back({base + "_expand_conv", base + "_bn0"});
  names.push_back({base + "_depthwise_conv", base + "_bn1"});
  names.push_back({base + "_project_conv", base + "_bn2"});
  return names;
}

std::vector<ConvNames> timm_block(size_t, size_t stage, size_t in_stage, size_t convs) {
  const auto base = fmt::format("blocks.{}.{}.", stage, in_stage);
  if (convs == 2) return {{base + "conv_dw", base + "bn1"}, {base + "conv_pw", base + "bn2"}};
  return {{base + "conv_pw", base + "bn1"},
          {base + "conv_dw", base + "bn2"},
          {base + "conv_pwl", base + "bn3"}};
}

std::unique_ptr<MobileNet> finish(std::unique_ptr<MobileNet> net, const ConvWeights& weights) {
  weights.expect_complete();
  net->options.hash = weights.hash();
  return net;
}

std::unique_ptr<MobileNet> load_numbered(ConvWeights& weights, const MobileNetOptions& options) {
  auto net = std::make_unique<MobileNet>(options);
  size_t layer = 0;
  for (ConvLayer* conv : net->convolutions())
    weights.fill(*conv, fmt::format("layers.{}", layer++));
  weights.fill(net->classifier, fmt::format("layers.{}", layer));
  return finish(std::move(net), weights);
}

std::unique_ptr<MobileNet> load_layout(ConvWeights& weights, const MobileNetOptions& options,
                                       const Layout& layout) {
  auto net = std::make_unique<MobileNet>(options);
  weights.fill(net->stem, layout.stem.conv, layout.stem.norm, layout.eps);
  size_t block = 0;
  for (size_t stage = 0; stage < options.stages.size(); ++stage) {
    for (size_t i = 0; i < static_cast<size_t>(options.stages[stage].repeats); ++i, ++block) {
      const auto& convs = net->blocks[block]->convs;
      const auto names = layout.block(block, stage, i, convs.size());
      for (size_t k = 0; k < convs.size(); ++k)
        weights.fill(*convs[k], names[k].conv, names[k].norm, layout.eps);
    }
  }
  weights.fill(*net->head, layout.head.conv, layout.head.norm, layout.eps);
  weights.fill(net->classifier, layout.classifier);
  return finish(std::move(net), weights);
}

size_t block_count(const MobileNetOptions& o) {
  int64_t count = 0;
  for (const MobileStage& stage : o.stages) count += stage.repeats;
  return static_cast<size_t>(count);
}

}  // namespace

std::unique_ptr<MobileNet> load_nima(const std::filesystem::path& file,
                                     const MobileNetOptions& options) {
  ConvWeights weights(file, options.dtype);
  return load_numbered(weights, options);
}

std::unique_ptr<MobileNet> load_mobilenet_v2(const std::filesystem::path& file,
                                             const MobileNetOptions& options) {
  ConvWeights weights(file, options.dtype);
  if (weights.contains("layers.0.weight")) return load_numbered(weights, options);
  VGGFLOW_CHECK(
      weights.contains("features.0.0.weight"),
      "[mobilenet_v2] expected 'layers.0.weight' or torchvision's 'features.0.0.weight' in {}: {}",
      file.string(), "it is not a MobileNetV2 whose layout is known");
  MobileNetOptions o = options;
  o.padding = ConvPadding::kSymmetric;
  o.mean = kImageNetMean;
  o.deviation = kImageNetDeviation;
  o.classes = 1000;
  const size_t last = block_count(o) + 1;
  return load_layout(weights, o,
                     {{"features.0.0", "features.0.1"},
                      {fmt::format("features.{}.0", last), fmt::format("features.{}.1", last)},
                      torchvision_block,
                      "classifier.1",
                      kTorchvisionEps});
}

std::unique_ptr<MobileNet> load_efficientnet_lite0(const std::filesystem::path& file,
                                                   const MobileNetOptions& options) {
  ConvWeights weights(file, options.dtype);
  if (weights.contains("conv_stem.weight")) {
    return load_layout(
        weights, options,
        {{"conv_stem", "bn1"}, {"conv_head", "bn2"}, timm_block, "classifier", kTensorFlowEps});
  }
  VGGFLOW_CHECK(
      weights.contains("_conv_stem.weight"),
      "[efficientnet_lite0] expected '_conv_stem.weight' or timm's 'conv_stem.weight' in {}: {}",
      file.string(), "it is not an EfficientNet-Lite0 whose layout is known");
  return load_layout(
      weights, options,
      {{"_conv_stem", "_bn0"}, {"_conv_head", "_bn1"}, wheel_block, "_fc", kTensorFlowEps});
}

}  // namespace vggflow
