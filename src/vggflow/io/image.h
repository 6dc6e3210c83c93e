#pragma once
// 8-bit RGB images, PNG files and grids.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace vggflow {

struct Image {
  int64_t width = 0, height = 0;
  std::vector<uint8_t> rgb;  ///< rows of R G B, 3 * width * height bytes
};

/// From (3, H, W) floats in [0, 1]; values outside are clipped, then rounded.
Image to_image(const at::Tensor& pixels);

/// N images (N, 3, H, W) in rows of `columns`, enlarged by whole pixels, on a white ground with
/// `gap` pixels between.
Image image_grid(const at::Tensor& images, int64_t columns, int64_t enlarge = 1, int64_t gap = 2);

/// The images themselves up to `side` pixels a side, larger ones averaged over whole blocks: what
/// grids hold of large images.
at::Tensor thumbnails(const at::Tensor& images, int64_t side = 256);

using TextChunks = std::map<std::string, std::string>;

/// PNG bytes, with text chunks.
std::vector<uint8_t> encode_png(const Image& image, const TextChunks& text = {});
void write_png(const std::filesystem::path& file, const Image& image, const TextChunks& text = {});
/// Reads an 8-bit PNG as RGB. Throws for a damaged file.
Image read_png(const std::filesystem::path& file);

std::string base64(const std::vector<uint8_t>& bytes);

}  // namespace vggflow
