#pragma once
// CLIP as rewards and metrics use it: images and prompts to unit vectors of the common space.

#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "vggflow/networks/clip/clip_checkpoint.h"
#include "vggflow/networks/vision/image_preprocess.h"
#include "vggflow/text/clip_tokenizer.h"

namespace vggflow {

/// Preprocessing and the image tower.
class ClipImageEncoder {
 public:
  /// The tower of `checkpoint` in fp32 or bf16; images are fitted to its own size.
  ClipImageEncoder(const ClipCheckpoint& checkpoint, at::ScalarType dtype,
                   Fit fit = Fit::kCropTorchvision);

  /// (B, P) of images (B, 3, H, W) in [0, 1], any size, fp32 or fp64; not normalised.
  template <TensorLike T>
  T project(const T& images) const {
    return tower_->embed(preprocess(images, preprocess_));
  }
  /// The same as unit vectors.
  template <TensorLike T>
  T embed(const T& images) const {
    return ops::l2_normalize(project(images));
  }
  /// Trades one more forward pass for the memory of the activations (ClipVisionModel::recompute).
  void set_recompute(bool on) { tower_->recompute = on; }
  std::string describe() const { return vggflow::describe(preprocess_); }
  const ClipVisionOptions& options() const { return tower_->options; }

 private:
  std::unique_ptr<ClipVisionModel> tower_;
  ImagePreprocess preprocess_;
};

/// Tokenizer and the text tower. Prompts come again and again, so their vectors are kept.
class ClipTextEncoder {
 public:
  /// `tokenizer` is a folder with vocab.json, merges.txt and tokenizer_config.json.
  ClipTextEncoder(const ClipCheckpoint& checkpoint, const std::filesystem::path& tokenizer,
                  at::ScalarType dtype);

  /// Unit vectors (B, P), fp32, without a graph. A prompt that is too long keeps its first tokens
  /// and the end mark.
  Tensor embed(const std::vector<std::string>& prompts) const;

 private:
  Tensor embed_one(const std::string& prompt) const;
  ClipTokenizer tokenizer_;
  std::unique_ptr<ClipTextModel> tower_;
  mutable std::mutex mutex_;
  mutable std::unordered_map<std::string, Tensor> known_;  ///< (P) by prompt
};

}  // namespace vggflow
