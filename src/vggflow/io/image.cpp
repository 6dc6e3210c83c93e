#include "vggflow/io/image.h"

#include <ATen/ATen.h>
#include <png.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "vggflow/core/error.h"
#include "vggflow/io/files.h"
#include "vggflow/io/finite.h"

namespace vggflow {

Image to_image(const at::Tensor& pixels) {
  VGGFLOW_CHECK(pixels.dim() == 3 && pixels.size(0) == 3,
                "[image] expected pixels (3, H, W), got {} dimensions", pixels.dim());
  require_finite_image(pixels);
  const at::Tensor bytes = (pixels.detach().to(at::kCPU, at::kFloat).clamp(0, 1) * 255)
                               .round()
                               .to(at::kByte)
                               .permute({1, 2, 0})
                               .contiguous();
  const auto* p = bytes.const_data_ptr<uint8_t>();
  return {pixels.size(2), pixels.size(1), std::vector<uint8_t>(p, p + bytes.numel())};
}

Image image_grid(const at::Tensor& images, int64_t columns, int64_t enlarge, int64_t gap) {
  const int64_t n = images.size(0), h = images.size(2) * enlarge, w = images.size(3) * enlarge,
                rows = (n + columns - 1) / columns;
  Image grid{columns * (w + gap) + gap, rows * (h + gap) + gap, {}};
  grid.rgb.assign(static_cast<size_t>(grid.width * grid.height * 3), 255);
  for (int64_t i = 0; i < n; ++i) {
    const Image cell = to_image(images[i]);
    const int64_t top = gap + i / columns * (h + gap), left = gap + i % columns * (w + gap);
    for (int64_t y = 0; y < h; ++y) {
      for (int64_t x = 0; x < w; ++x) {
        const size_t from = static_cast<size_t>((y / enlarge * cell.width + x / enlarge) * 3);
        const size_t to = static_cast<size_t>(((top + y) * grid.width + left + x) * 3);
        std::copy_n(cell.rgb.begin() + static_cast<std::ptrdiff_t>(from), 3,
                    grid.rgb.begin() + static_cast<std::ptrdiff_t>(to));
      }
    }
  }
  return grid;
}

namespace {

void on_error(png_structp png, png_const_charp message) {
  *static_cast<std::string*>(png_get_error_ptr(png)) = message;
  png_longjmp(png, 1);
}
void on_warning(png_structp, png_const_charp) {}

void append_bytes(png_structp png, png_bytep data, png_size_t size) {
  auto* out = static_cast<std::vector<uint8_t>*>(png_get_io_ptr(png));
  out->insert(out->end(), data, data + size);
}

}  // namespace

at::Tensor thumbnails(const at::Tensor& images, int64_t side) {
  const int64_t block = (std::max(images.size(2), images.size(3)) + side - 1) / side;
  return block <= 1 ? images : at::avg_pool2d(images, {block, block});
}

std::vector<uint8_t> encode_png(const Image& image, const TextChunks& text) {
  std::vector<uint8_t> out;
  std::string error;
  std::vector<png_text> chunks;
  for (const auto& [key, value] : text) {
    png_text chunk{};
    const bool ascii = std::all_of(value.begin(), value.end(),
                                   [](char c) { return static_cast<unsigned char>(c) < 0x80; });
    chunk.compression = ascii ? PNG_TEXT_COMPRESSION_NONE : PNG_ITXT_COMPRESSION_NONE;
    chunk.key = const_cast<char*>(key.c_str());
    chunk.text = const_cast<char*>(value.c_str());
    (ascii ? chunk.text_length : chunk.itxt_length) = value.size();
    chunks.push_back(chunk);
  }
  std::vector<png_bytep> rows;
  for (int64_t y = 0; y < image.height; ++y)
    rows.push_back(const_cast<png_bytep>(image.rgb.data() + y * image.width * 3));
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &error, on_error, on_warning);
  png_infop info = png_create_info_struct(png);
  if (setjmp(png_jmpbuf(png)) == 0) {
    png_set_write_fn(png, &out, append_bytes, nullptr);
    png_set_IHDR(png, info, static_cast<png_uint_32>(image.width),
                 static_cast<png_uint_32>(image.height), 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    if (!chunks.empty()) png_set_text(png, info, chunks.data(), static_cast<int>(chunks.size()));
    png_write_info(png, info);
    png_write_image(png, rows.data());
    png_write_end(png, info);
  }
  png_destroy_write_struct(&png, &info);
  VGGFLOW_CHECK(error.empty(), "[image] cannot encode a PNG of {}x{}: {}", image.width,
                image.height, error);
  return out;
}

void write_png(const std::filesystem::path& file, const Image& image, const TextChunks& text) {
  const auto bytes = encode_png(image, text);
  AtomicFile out(file);
  out.write(bytes.data(), bytes.size());
  out.commit();
}

Image read_png(const std::filesystem::path& file) {
  const std::string bytes = read_text(file);
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  const auto check = [&](int ok) {
    VGGFLOW_CHECK(ok != 0, "[image] {} is not a readable PNG: {}", file.string(), image.message);
  };
  check(png_image_begin_read_from_memory(&image, bytes.data(), bytes.size()));
  image.format = PNG_FORMAT_RGB;
  Image out{image.width, image.height, {}};
  out.rgb.resize(PNG_IMAGE_SIZE(image));
  check(png_image_finish_read(&image, nullptr, out.rgb.data(), 0, nullptr));
  return out;
}

std::string base64(const std::vector<uint8_t>& bytes) {
  static constexpr char kDigits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t left = std::min<size_t>(3, bytes.size() - i);
    uint32_t word = 0;
    for (size_t k = 0; k < 3; ++k) word = (word << 8) | (k < left ? bytes[i + k] : 0u);
    for (size_t k = 0; k < 4; ++k) out += k <= left ? kDigits[(word >> (18 - 6 * k)) & 63] : '=';
  }
  return out;
}

}  // namespace vggflow
