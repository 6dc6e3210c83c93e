#include "vggflow/features/nano_features.h"

#include <ATen/ATen.h>

#include "vggflow/core/error.h"
#include "vggflow/io/content_hash.h"
#include "vggflow/io/model_files.h"
#include "vggflow/ops/resize.h"

namespace vggflow {
namespace {

Tensor fit(const Tensor& images, int64_t size) {
  VGGFLOW_CHECK(images.dim() == 4 && images.size(1) == 3,
                "[features] expected images (B, 3, H, W), got {}", shape_string(images));
  return ops::resize_pixels(images, size, size);
}

std::string hash_of(const std::filesystem::path& folder) {
  return content_hash(open_component(folder).tensors);
}

}  // namespace

JudgeFeatures::JudgeFeatures(const std::filesystem::path& folder)
    : judge_(Judge::load(folder)), hash_(hash_of(folder)) {}

Tensor JudgeFeatures::features(const Tensor& images) const {
  return judge_->forward(fit(images, judge_->options.size)).features.to(at::kFloat);
}

EmojiClipFeatures::EmojiClipFeatures(const std::filesystem::path& folder)
    : clip_(EmojiClip::load(folder)), hash_(hash_of(folder)) {}

Tensor EmojiClipFeatures::features(const Tensor& images) const {
  return clip_->embed_images(fit(images, 32)).to(at::kFloat);
}

}  // namespace vggflow
