#pragma once
// Photographs with class labels: a zip of CLASS/NAME.jpg (stored, not compressed: the images are),
// and what `vggflow prepare` makes of one, the latents that a flow model is trained on. Their
// captions are "a photo of a CLASS".

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>
#include <vector>

#include "vggflow/text/vocabulary.h"

namespace vggflow {

using at::Tensor;

/// "a photo of a horse".
std::string photo_caption(const std::string& class_name);

/// The vocabulary of these captions.
Vocabulary photo_vocabulary(const std::vector<std::string>& classes);

/// Prompts of the grids that people look at: each class four times in a row, to be drawn from
/// different noise.
std::vector<std::string> photo_display(const std::vector<std::string>& classes);

struct PhotoSet {
  std::vector<std::string> classes;  ///< in alphabetical order
  Tensor images;                     ///< (N, 3, H, W) uint8, class by class
  Tensor labels;                     ///< (N) int64, places in classes
};

/// All images of the zip, or the first `per_class` of each class by name where that is positive.
/// Throws for entries outside a class folder, files that are no images, and images of different
/// sizes, naming the entry.
PhotoSet read_photo_zip(const std::filesystem::path& file, int64_t per_class = 0);

/// Latents of photographs, in a safetensors file.
struct LatentSet {
  std::vector<std::string> classes;
  Tensor latents;       ///< (N, C, h, w) fp32; fp16 in the file
  Tensor labels;        ///< (N) int64
  std::string encoder;  ///< hash of the weights that made them
};

/// Whole or absent.
void write_latents(const std::filesystem::path& file, const LatentSet& set);
/// Throws for a file that write_latents did not make.
LatentSet read_latents(const std::filesystem::path& file);

/// (count) places in a set of `size`, one a global sample first..first+count-1 of an update, keyed
/// by (seed, kData, update, sample).
Tensor draw_places(int64_t size, uint64_t seed, uint64_t update, uint64_t first, int64_t count);

}  // namespace vggflow
