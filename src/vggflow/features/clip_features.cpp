#include "vggflow/features/clip_features.h"

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include "vggflow/io/content_hash.h"

namespace vggflow {
namespace {

// OpenAI's towers are the ones whose releases lack a configuration; of any other the activation
// would be a guess, and a wrong one changes every figure.
ClipCheckpoint read(const std::filesystem::path& weights) {
  return read_clip_checkpoint(weights, /*activation=*/std::nullopt);
}

TensorMap vision_tensors(const ClipCheckpoint& checkpoint) {
  TensorMap out;
  for (const auto& [name, tensor] : checkpoint.tensors) {
    if (name.starts_with("vision_model.") || name.starts_with("visual_projection."))
      out[name] = tensor;
  }
  return out;
}

}  // namespace

ClipFeatures::ClipFeatures(const std::filesystem::path& weights, at::ScalarType dtype, bool unit)
    : ClipFeatures(read(weights), dtype, unit) {}

ClipFeatures::ClipFeatures(const ClipCheckpoint& checkpoint, at::ScalarType dtype, bool unit)
    : unit_(unit), encoder_(checkpoint, dtype), hash_(content_hash(vision_tensors(checkpoint))) {}

Tensor ClipFeatures::features(const Tensor& images) const {
  at::NoGradGuard no_grad;
  return (unit_ ? encoder_.embed(images) : encoder_.project(images)).to(at::kFloat);
}

std::string ClipFeatures::name() const {
  const ClipVisionOptions& o = encoder_.options();
  const std::string ending = unit_ ? "" : "-projected";
  for (const auto& [name, preset] : clip_vision_presets()) {
    if (preset.width == o.width && preset.patch == o.patch && preset.layers == o.layers &&
        preset.image == o.image)
      return name + ending;
  }
  return fmt::format("clip-vit-{}x{}{}", o.width, o.layers, ending);
}

}  // namespace vggflow
