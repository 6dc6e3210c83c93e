#include "vggflow/io/image_file.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <jerror.h>
#include <jpeglib.h>  // needs cstdio before it
#include <png.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <csetjmp>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "vggflow/core/error.h"
#include "vggflow/core/foreign_file.h"
#include "vggflow/core/log.h"
#include "vggflow/io/files.h"

namespace vggflow {
namespace {

// An image may be so many pixels (400 MB) where its file holds something for them, a byte for every
// 128 at least. One that is nearly empty, which a few kilobytes describe at any size, may be as
// many as a camera takes: a reward's copies of it are twenty times as large as its pixels.
constexpr uint64_t kMostPixels = uint64_t{1} << 27, kMostEmptyPixels = uint64_t{1} << 24,
                   kPixelsForOneByte = 128;

// Before anything of this size is allocated.
void check_size(uint64_t width, uint64_t height, size_t file_size, const std::string& name) {
  const uint64_t pixels = width * height;
  VGGFLOW_CHECK(pixels <= kMostPixels,
                "[image] {} says that it is {} x {}: expected at most {} pixels", name, width,
                height, kMostPixels);
  VGGFLOW_CHECK(pixels <= std::max(kMostEmptyPixels, kPixelsForOneByte * file_size),
                "[image] {} says that it is {} x {} in {} bytes, which hold next to nothing: "
                "expected at most {} pixels of such a file. Make it smaller",
                name, width, height, file_size, kMostEmptyPixels);
}

// Whether bytes are UTF-8: lead bytes are followed by as many continuations as they announce.
bool is_utf8(const std::string& text) {
  size_t left = 0;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte >> 6) == 2) {
      if (left-- == 0) return false;
    } else {
      if (left > 0) return false;
      left = byte < 0x80         ? 0
             : (byte >> 5) == 6  ? 1
             : (byte >> 4) == 14 ? 2
             : (byte >> 3) == 30 ? 3
                                 : 4;
      if (left == 4) return false;
    }
  }
  return left == 0;
}

// PNG's plain text chunks are Latin-1 by the standard; many programs, older versions of this one
// too, put UTF-8 there.
std::string utf8_of(const std::string& text) {
  if (is_utf8(text)) return text;
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80) {
      out += c;
    } else {
      out += static_cast<char>(0xC0 | (byte >> 6));
      out += static_cast<char>(0x80 | (byte & 0x3F));
    }
  }
  return out;
}

struct PngSource {
  std::span<const uint8_t> bytes;
  size_t at = 0;
};

void on_png_error(png_structp png, png_const_charp message) {
  *static_cast<std::string*>(png_get_error_ptr(png)) = message;
  png_longjmp(png, 1);
}
void on_png_warning(png_structp, png_const_charp) {}

void give_bytes(png_structp png, png_bytep out, png_size_t size) {
  auto* source = static_cast<PngSource*>(png_get_io_ptr(png));
  if (size > source->bytes.size() - source->at) png_error(png, "the file ends too early");
  std::memcpy(out, source->bytes.data() + source->at, size);
  source->at += size;
}

// libpng takes the memory that a chunk says it needs before it reads the chunk: a length of four
// bytes, a name of four, the data, a check sum of four.
void check_chunks(std::span<const uint8_t> bytes, const std::string& name) {
  constexpr size_t kSignature = 8, kFrame = 12;
  for (size_t at = kSignature; at + kFrame <= bytes.size();) {
    size_t length = 0;
    for (size_t i = 0; i < 4; ++i) length = length << 8 | bytes[at + i];
    const size_t left = bytes.size() - at - kFrame;
    VGGFLOW_CHECK(length <= left,
                  "[image] {} is not a readable PNG: a chunk says that it has {} bytes where {} "
                  "are left. Write it again",
                  name, length, left);
    if (std::memcmp(&bytes[at + 4], "IEND", 4) == 0) return;
    at += kFrame + length;
  }
}

// A codec for one file. Packed text may unfold to a thousand times its size: of one chunk 4 MB are
// taken and of all 64 chunks, the others left out.
png_structp open_png(std::string& error, PngSource& source) {
  png_structp png =
      png_create_read_struct(PNG_LIBPNG_VER_STRING, &error, on_png_error, on_png_warning);
  png_set_chunk_malloc_max(png, 4 << 20);
  png_set_chunk_cache_max(png, 64);
  png_set_read_fn(png, &source, give_bytes);
  return png;
}

TextChunks text_of(png_structp png, png_infop info) {
  TextChunks text;
  png_textp chunks = nullptr;
  int count = 0;
  png_get_text(png, info, &chunks, &count);
  for (int i = 0; i < count; ++i) {
    const png_text& c = chunks[i];
    const size_t length =
        c.compression >= PNG_ITXT_COMPRESSION_NONE ? c.itxt_length : c.text_length;
    text[c.key] = utf8_of({c.text, length});
  }
  return text;
}

// Deflate gives at most 1032 bytes for one: an image that claims more is not in the file.
void check_png_fits(png_structp png, png_infop info, size_t file_size, const std::string& name) {
  const uint64_t width = png_get_image_width(png, info), height = png_get_image_height(png, info);
  check_size(width, height, file_size, name);
  VGGFLOW_CHECK(height * png_get_rowbytes(png, info) / 1032 <= file_size,
                "[image] {} says that it is {} x {}, which its {} bytes cannot hold", name, width,
                height, file_size);
}

// Pillow's convert("RGB") of 16-bit grey: what is above 255 becomes white. Said once, because few
// expect it.
void saturate(const std::vector<uint8_t>& wide, std::vector<uint8_t>& rgb,
              const std::string& name) {
  bool cut = false;
  for (size_t i = 0; i < wide.size(); i += 2) {
    const bool white = wide[i] > 0;
    cut |= white;
    std::fill_n(rgb.begin() + static_cast<std::ptrdiff_t>(i / 2 * 3), 3,
                white ? uint8_t{255} : wide[i + 1]);
  }
  static std::atomic<bool> told = false;
  if (cut && !told.exchange(true))
    log_info(
        "warning: {} is 16-bit grey; as in Pillow's convert(\"RGB\") values above 255 of 65535 are "
        "white. Write 8-bit images for other pixels (said once)",
        name);
}

// Every object with a destructor lives outside the code that libpng may jump out of: the two steps
// are split by setjmp.
ImageFile decode_png(std::span<const uint8_t> bytes, const std::string& name) {
  check_chunks(bytes, name);
  ImageFile out;
  std::string error;
  PngSource source{bytes};
  std::vector<png_bytep> rows;
  std::vector<uint8_t> wide;  // 16-bit grey, the high byte first
  png_structp png = open_png(error, source);
  png_infop info = png_create_info_struct(png);
  if (setjmp(png_jmpbuf(png)) == 0) png_read_info(png, info);
  if (error.empty()) {
    try {
      check_png_fits(png, info, bytes.size(), name);
      const bool grey16 = png_get_color_type(png, info) == PNG_COLOR_TYPE_GRAY &&
                          png_get_bit_depth(png, info) == 16;
      out.image = {png_get_image_width(png, info), png_get_image_height(png, info), {}};
      out.image.rgb.resize(static_cast<size_t>(3 * out.image.width * out.image.height));
      if (grey16) wide.resize(static_cast<size_t>(2 * out.image.width * out.image.height));
    } catch (...) {
      png_destroy_read_struct(&png, &info, nullptr);
      throw;
    }
    for (int64_t y = 0; y < out.image.height; ++y)
      rows.push_back(wide.empty() ? out.image.rgb.data() + 3 * y * out.image.width
                                  : wide.data() + 2 * y * out.image.width);
    if (setjmp(png_jmpbuf(png)) == 0) {
      png_set_expand(png);
      png_set_strip_alpha(png);
      if (wide.empty()) png_set_strip_16(png);
      if (wide.empty()) png_set_gray_to_rgb(png);
      png_set_interlace_handling(png);
      png_read_update_info(png, info);
      png_read_image(png, rows.data());
      png_read_end(png, info);
    }
    if (error.empty()) out.text = text_of(png, info);
  }
  png_destroy_read_struct(&png, &info, nullptr);
  VGGFLOW_CHECK(error.empty(), "[image] {} is not a readable PNG: {}. Write it again", name, error);
  if (!wide.empty()) saturate(wide, out.image.rgb, name);
  return out;
}

// libjpeg's error hooks: errors jump, warnings that mean missing or wrong data count as errors,
// because the picture would be grey there.
struct JpegErrors {
  jpeg_error_mgr manager;
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
};

void on_jpeg_error(j_common_ptr codec) {
  auto* errors = reinterpret_cast<JpegErrors*>(codec->err);
  codec->err->format_message(codec, errors->message);
  std::longjmp(errors->jump, 1);
}
void on_jpeg_message(j_common_ptr codec, int level) {
  if (level < 0 && codec->err->msg_code != JWRN_EXTRANEOUS_DATA) on_jpeg_error(codec);
}

jpeg_error_mgr* prepare(JpegErrors& errors) {
  jpeg_error_mgr* manager = jpeg_std_error(&errors.manager);
  manager->error_exit = on_jpeg_error;
  manager->emit_message = on_jpeg_message;
  errors.message[0] = '\0';
  return manager;
}

// Every 128 pixels at least have a bit, a Huffman code; in arithmetic coding they may share one.
void check_jpeg_fits(const jpeg_decompress_struct& codec, size_t file_size,
                     const std::string& name) {
  const uint64_t width = codec.image_width, height = codec.image_height;
  check_size(width, height, file_size, name);
  VGGFLOW_CHECK(codec.arith_code || width * height / 1024 <= file_size,
                "[image] {} says that it is {} x {}, which its {} bytes cannot hold", name, width,
                height, file_size);
}

ImageFile decode_jpeg(std::span<const uint8_t> bytes, const std::string& name) {
  ImageFile out;
  JpegErrors errors;
  jpeg_decompress_struct codec{};
  codec.err = prepare(errors);
  jpeg_create_decompress(&codec);
  if (setjmp(errors.jump) == 0) {
    jpeg_mem_src(&codec, bytes.data(), bytes.size());
    jpeg_read_header(&codec, TRUE);
    codec.out_color_space = JCS_RGB;  // grey too; libjpeg refuses CMYK
  }
  const bool begun = errors.message[0] == '\0';
  if (begun) {
    try {
      check_jpeg_fits(codec, bytes.size(), name);
      out.image = {codec.image_width, codec.image_height, {}};
      out.image.rgb.resize(static_cast<size_t>(3 * out.image.width * out.image.height));
    } catch (...) {
      jpeg_destroy_decompress(&codec);
      throw;
    }
    if (setjmp(errors.jump) == 0) {
      jpeg_start_decompress(&codec);
      while (codec.output_scanline < codec.output_height) {
        JSAMPROW row = out.image.rgb.data() +
                       3 * static_cast<size_t>(codec.output_scanline) * codec.output_width;
        jpeg_read_scanlines(&codec, &row, 1);
      }
      jpeg_finish_decompress(&codec);
    }
  }
  jpeg_destroy_decompress(&codec);
  VGGFLOW_CHECK(errors.message[0] == '\0',
                "[image] {} is not a readable JPEG: {}. Write it again, as RGB or grey", name,
                errors.message);
  return out;
}

// The header of a PNG, its text up to the pixels.
TextChunks png_head_text(std::span<const uint8_t> bytes, const std::string& name) {
  check_chunks(bytes, name);
  TextChunks text;
  std::string error;
  PngSource source{bytes};
  png_structp png = open_png(error, source);
  png_infop info = png_create_info_struct(png);
  if (setjmp(png_jmpbuf(png)) == 0) png_read_info(png, info);
  if (error.empty()) text = text_of(png, info);
  png_destroy_read_struct(&png, &info, nullptr);
  VGGFLOW_CHECK(error.empty(), "[image] {} is not a readable PNG: {}. Write it again", name, error);
  return text;
}

bool begins_with(std::span<const uint8_t> bytes, std::initializer_list<uint8_t> mark) {
  return bytes.size() >= mark.size() && std::equal(mark.begin(), mark.end(), bytes.begin());
}

std::span<const uint8_t> as_bytes(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}
bool is_png(std::span<const uint8_t> bytes) {
  return begins_with(bytes, {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'});
}

}  // namespace

ImageFile decode_image(std::span<const uint8_t> bytes, const std::string& name) {
  if (is_png(bytes)) return decode_png(bytes, name);
  if (begins_with(bytes, {0xFF, 0xD8, 0xFF})) return decode_jpeg(bytes, name);
  refuse_foreign({reinterpret_cast<const char*>(bytes.data()), bytes.size()},
                 fmt::format("[image] {}", name));
  fail("[image] {} is neither a PNG nor a JPEG file. Convert it", name);
}

ImageFile read_image(const std::filesystem::path& file) {
  const std::string bytes = read_text(file);
  return decode_image(as_bytes(bytes), file.string());
}

TextChunks read_image_text(const std::filesystem::path& file) {
  const std::string bytes = read_text(file);
  return is_png(as_bytes(bytes)) ? png_head_text(as_bytes(bytes), file.string()) : TextChunks{};
}

bool is_image_name(const std::filesystem::path& file) {
  std::string e = file.extension().string();
  std::transform(e.begin(), e.end(), e.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return e == ".png" || e == ".jpg" || e == ".jpeg";
}

std::vector<uint8_t> encode_jpeg(const Image& image, int quality) {
  VGGFLOW_CHECK(
      image.width > 0 && image.height > 0 && image.width <= 65500 && image.height <= 65500,
      "[image] expected 1 to 65500 pixels a side for a JPEG, got {} x {}", image.width,
      image.height);
  JpegErrors errors;
  jpeg_compress_struct codec{};
  codec.err = prepare(errors);
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  jpeg_create_compress(&codec);
  if (setjmp(errors.jump) == 0) {
    jpeg_mem_dest(&codec, &bytes, &size);
    codec.image_width = static_cast<JDIMENSION>(image.width);
    codec.image_height = static_cast<JDIMENSION>(image.height);
    codec.input_components = 3;
    codec.in_color_space = JCS_RGB;
    jpeg_set_defaults(&codec);
    jpeg_set_quality(&codec, quality, TRUE);
    jpeg_start_compress(&codec, TRUE);
    while (codec.next_scanline < codec.image_height) {
      JSAMPROW row = const_cast<JSAMPROW>(
          image.rgb.data() + 3 * static_cast<size_t>(codec.next_scanline) * codec.image_width);
      jpeg_write_scanlines(&codec, &row, 1);
    }
    jpeg_finish_compress(&codec);
  }
  jpeg_destroy_compress(&codec);
  // After an error `bytes` may be a block that libjpeg has replaced and freed already.
  VGGFLOW_CHECK(errors.message[0] == '\0', "[image] cannot encode a JPEG of {} x {}: {}",
                image.width, image.height, errors.message);
  const std::vector<uint8_t> out(bytes, bytes + size);
  std::free(bytes);
  return out;
}

at::Tensor to_pixels(const Image& image) {
  const at::Tensor bytes = at::from_blob(const_cast<uint8_t*>(image.rgb.data()),
                                         {image.height, image.width, 3}, at::kByte);
  // Copied once: a photograph's pixels as numbers are gigabytes.
  at::Tensor pixels = at::empty({3, image.height, image.width});
  return pixels.copy_(bytes.permute({2, 0, 1})).div_(255);
}

}  // namespace vggflow
