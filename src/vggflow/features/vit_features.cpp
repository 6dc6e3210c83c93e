#include "vggflow/features/vit_features.h"

#include <ATen/core/grad_mode.h>

#include "vggflow/io/content_hash.h"
#include "vggflow/io/model_files.h"
#include "vggflow/networks/vision/image_preprocess.h"

namespace vggflow {
namespace {

std::string parameter_hash(const Module& network) {
  TensorMap tensors;
  for (const NamedTensor& p : network.parameters()) tensors[p.name] = *p.tensor;
  return content_hash(tensors);
}

// DINO's evaluation: the shorter side to 256 for a network of 224, then the middle.
Tensor dino_preprocess(const Tensor& images, int64_t size) {
  const int64_t wider = size * 8 / 7, border = (wider - size) / 2;
  const Tensor x = preprocess(images, {.size = wider,
                                       .fit = Fit::kCropTorchvision,
                                       .mean = {0.485, 0.456, 0.406},
                                       .deviation = {0.229, 0.224, 0.225}});
  return x.narrow(2, border, size).narrow(3, border, size);
}

}  // namespace

DinoFeatures::DinoFeatures(const std::filesystem::path& file, const VitOptions& options)
    : vit_(options) {
  TensorList targets;
  for (const NamedTensor& p : vit_.parameters()) targets.emplace_back(p.name, *p.tensor);
  load_into(open_weights(file), "[dino] " + file.string(), targets);
  hash_ = parameter_hash(vit_);
}

Tensor DinoFeatures::features(const Tensor& images) const {
  at::NoGradGuard no_grad;
  return vit_.forward(dino_preprocess(images.to(at::kFloat), vit_.options.image))
      .select(1, 0)
      .contiguous();
}

DreamSimFeatures::DreamSimFeatures(const std::filesystem::path& folder,
                                   const DreamSimOptions& options)
    : network_(DreamSim::load(folder, options)), hash_(parameter_hash(*network_)) {}

// The package stretches an image to 224 x 224 whatever its shape.
Tensor DreamSimFeatures::features(const Tensor& images) const {
  at::NoGradGuard no_grad;
  const ImagePreprocess stretch{.size = network_->options.dino.image,
                                .fit = Fit::kStretch,
                                .mean = {0, 0, 0},
                                .deviation = {1, 1, 1}};
  return network_->embed(preprocess(images.to(at::kFloat), stretch));
}

}  // namespace vggflow
