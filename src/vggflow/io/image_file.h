#pragma once
// Image files as other programs write them: PNG of any colour type and JPEG, told apart by their
// first bytes, decoded to the 8-bit RGB that PIL's convert("RGB") gives: transparency is dropped,
// grey becomes RGB, 16 bits keep their upper 8 (of 16-bit grey PIL makes saturated white); EXIF
// rotation and colour profiles are ignored.

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "vggflow/io/image.h"

namespace vggflow {

struct ImageFile {
  Image image;
  TextChunks text;  ///< of a PNG, as UTF-8; the last of several chunks with one key
};

/// Throws for what is neither, for damaged and truncated files, and for sizes that a PNG of so many
/// bytes cannot hold, naming the file.
ImageFile read_image(const std::filesystem::path& file);

/// The same from bytes; `name` is what errors call them.
ImageFile decode_image(std::span<const uint8_t> bytes, const std::string& name);

/// The text chunks that come before a PNG's pixels, without decoding those; none of a JPEG.
TextChunks read_image_text(const std::filesystem::path& file);

/// Whether the name ends in .png, .jpg or .jpeg.
bool is_image_name(const std::filesystem::path& file);

/// JPEG bytes, 4:2:0, quality 1 to 100.
std::vector<uint8_t> encode_jpeg(const Image& image, int quality = 90);

/// (3, H, W) floats in [0, 1].
at::Tensor to_pixels(const Image& image);

}  // namespace vggflow
