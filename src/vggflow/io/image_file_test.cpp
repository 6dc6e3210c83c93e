#include "vggflow/io/image_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>

#include "vggflow/io/files.h"
#include "vggflow/io/safetensors.h"
#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;

// Files and pixels of tools/reference/image_reference.py.
const fs::path kFolder = fs::path(VGGFLOW_SOURCE_DIR) / "src/vggflow/io/testdata/images";

std::vector<uint8_t> bytes_of(const std::string& name) {
  const std::string text = read_text(kFolder / name);
  return {text.begin(), text.end()};
}

Image gradient(int64_t width, int64_t height) {
  Image image{width, height, {}};
  for (int64_t i = 0; i < width * height; ++i) {
    for (const int64_t v : {i % width * 200 / width, i / width * 200 / height, int64_t{128}})
      image.rgb.push_back(static_cast<uint8_t>(v));
  }
  return image;
}

TEST(ImageFile, ReadsEveryColourTypeToPilsPixels) {
  const SafetensorsFile expected(kFolder / "pixels.safetensors");
  ASSERT_EQ(expected.tensors().size(), 9u);
  for (const auto& [name, entry] : expected.tensors()) {
    const Image image = read_image(kFolder / name).image;
    const at::Tensor want = expected.load(name).to(at::kInt);
    ASSERT_EQ(want.sizes(), at::IntArrayRef({image.height, image.width, 3})) << name;
    const at::Tensor got = (to_pixels(image) * 255).round().to(at::kInt).permute({1, 2, 0});
    EXPECT_EQ((got - want).abs().max().item<int>(), 0) << name;
  }
}

TEST(ImageFile, SixteenBitGreyIsCutAt255AsInPillowAndSaidOnce) {
  ::testing::internal::CaptureStderr();
  const Image image = read_image(kFolder / "grey_16_bit.png").image;
  read_image(kFolder / "grey_16_bit.png");
  const std::string said = ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(image.rgb[0], 0);
  EXPECT_EQ(image.rgb[3 * 6], 222);
  EXPECT_EQ(image.rgb[3 * 7], 255);
  EXPECT_LE(std::count(said.begin(), said.end(), '\n'), 1) << said;
}

TEST(ImageFile, OnlyFiniteNumbersAreAnImage) {
  at::Tensor pixels = at::zeros({3, 2, 2});
  pixels[1][0][1] = NAN;
  EXPECT_THAT(message_of([&] { to_image(pixels); }), HasSubstr("numbers that are not finite"));
}

TEST(ImageFile, ReadsTheTextOfAPngInEveryKindOfChunk) {
  const TextChunks text = read_image(kFolder / "rgb.png").text;
  EXPECT_EQ(text.at("prompt"), "a café, \"quoted\"");
  EXPECT_EQ(text.at("title"), "猫");
  EXPECT_EQ(text.at("parameters"), "a cat\nNegative prompt: dog\nSteps: 20");
  EXPECT_EQ(read_image_text(kFolder / "rgb.png"), text);
  EXPECT_TRUE(read_image_text(kFolder / "grey.jpg").empty());
  const auto own = encode_png(gradient(3, 2), {{"prompt", "a café"}});
  EXPECT_EQ(decode_image(own, "own").text.at("prompt"), "a café");
}

// The text chunks of a PNG, zeros as '|'. Behind its signature come chunks: four bytes of length,
// four of type, the data, four of checksum.
std::vector<std::string> text_chunks(const std::vector<uint8_t>& png) {
  std::vector<std::string> found;
  for (size_t at = 8; at + 12 <= png.size();) {
    size_t length = 0;
    for (size_t i = 0; i < 4; ++i) length = length << 8 | png[at + i];
    std::string chunk(png.begin() + static_cast<int64_t>(at) + 4,
                      png.begin() + static_cast<int64_t>(at + 8 + length));
    std::replace(chunk.begin(), chunk.end(), '\0', '|');
    if (chunk.substr(1, 3) == "EXt" || chunk.substr(1, 3) == "TXt") found.push_back(chunk);
    at += 12 + length;
  }
  return found;
}

// By the standard tEXt is Latin-1 and iTXt UTF-8: key, 0, compressed 0, method 0, language 0,
// translated key 0, text.
TEST(ImageFile, WritesAsciiAsPlainTextAndAllElseAsUnicodeText) {
  const auto png = encode_png(gradient(3, 2), {{"prompt", "a café, 猫"}, {"seed", "7"}});
  EXPECT_THAT(text_chunks(png), ::testing::ElementsAre("iTXtprompt|||||a café, 猫", "tEXtseed|7"));
  EXPECT_EQ(decode_image(png, "own").text, (TextChunks{{"prompt", "a café, 猫"}, {"seed", "7"}}));
}

TEST(ImageFile, ReadsBackItsOwnJpegWithinQuantisation) {
  const Image image = gradient(33, 17);
  const Image back = decode_image(encode_jpeg(image, 95), "own").image;
  EXPECT_EQ(back.width, 33);
  EXPECT_EQ(back.height, 17);
  EXPECT_LT((to_pixels(back) - to_pixels(image)).abs().mean().item<double>(), 0.01);
  EXPECT_LT(encode_jpeg(image, 20).size(), encode_jpeg(image, 95).size());
}

TEST(ImageFile, PixelsOfAnImageMakeTheImageAgain) {
  const Image image = gradient(7, 5);
  EXPECT_EQ(to_image(to_pixels(image)).rgb, image.rgb);
}

TEST(ImageFile, RefusesTruncatedFilesAtEveryLength) {
  for (const char* name : {"rgb.png", "palette.png", "baseline_420.jpg", "progressive_444.jpg"}) {
    const auto bytes = bytes_of(name);
    for (size_t size = 0; size + 2 < bytes.size(); size += 7) {
      EXPECT_THAT(message_of([&] { decode_image(std::span(bytes).first(size), name); }),
                  HasSubstr(std::string("[image] ") + name))
          << size;
    }
  }
}

TEST(ImageFile, RefusesDamagedFilesAndOtherFormats) {
  auto png = bytes_of("rgb.png");
  png[png.size() / 2] ^= 0x55;
  EXPECT_THAT(message_of([&] { decode_image(png, "a.png"); }),
              HasSubstr("[image] a.png is not a readable PNG"));
  EXPECT_THAT(message_of([] { read_image(kFolder / "cmyk.jpg"); }),
              HasSubstr("is not a readable JPEG: Unsupported color conversion request"));
  EXPECT_THAT(message_of([] { read_image(kFolder / "pixels.safetensors"); }),
              HasSubstr("is neither a PNG nor a JPEG file"));
  EXPECT_THAT(message_of([] { read_image(kFolder / "absent.png"); }), HasSubstr("cannot read"));
}

// Width and height lie at bytes 16 and 20 of a PNG, behind the start-of-frame marker of a JPEG.
TEST(ImageFile, RefusesSizesThatTheFileCannotHoldBeforeItAllocates) {
  auto large = bytes_of("rgb.png");
  large[17] = 0x0F;
  EXPECT_THAT(message_of([&] { decode_image(large, "a.png"); }), HasSubstr("a.png"));
  const auto header_of = [](uint32_t width, uint32_t height) {
    std::vector<uint8_t> bytes = encode_png(gradient(1, 1));
    const auto put = [&](size_t at, uint32_t v) {
      for (size_t i = 0; i < 4; ++i) bytes[at + i] = static_cast<uint8_t>(v >> (24 - 8 * i));
    };
    put(16, width);
    put(20, height);
    uint32_t crc = 0xFFFFFFFF;  // of the chunk's type and data
    for (size_t i = 12; i < 29; ++i) {
      crc ^= bytes[i];
      for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? 0xEDB88320 ^ (crc >> 1) : crc >> 1;
    }
    put(29, ~crc);
    return bytes;
  };
  EXPECT_THAT(message_of([&] { decode_image(header_of(100000, 100000), "a.png"); }),
              HasSubstr("says that it is 100000 x 100000: expected at most 134217728 pixels"));
  EXPECT_THAT(message_of([&] { decode_image(header_of(4000, 4000), "a.png"); }),
              HasSubstr("a.png says that it is 4000 x 4000, which its"));
  auto empty = header_of(8000, 8000);
  empty.resize(200000);  // deflate could unfold these to 64 million pixels of nothing
  EXPECT_THAT(message_of([&] { decode_image(empty, "a.png"); }),
              HasSubstr("8000 x 8000 in 200000 bytes, which hold next to nothing"));
  // libpng would take the gigabyte first. The chunk after the header begins at byte 33.
  auto chunk = encode_png(gradient(1, 1), {{"prompt", "a cat"}});
  chunk[33] = 0x41;
  EXPECT_THAT(message_of([&] { decode_image(chunk, "a.png"); }),
              HasSubstr("a chunk says that it has 1090519052 bytes where "));
  const auto jpeg_of = [&](const char* name, uint8_t mark, uint8_t high) {
    auto jpeg = bytes_of(name);
    const std::array<uint8_t, 2> frame{0xFF, mark};
    const auto at = std::search(jpeg.begin(), jpeg.end(), frame.begin(), frame.end());
    at[5] = at[7] = high;
    return jpeg;
  };
  EXPECT_THAT(message_of([&] { decode_image(jpeg_of("baseline_420.jpg", 0xC0, 0xF0), "a.jpg"); }),
              HasSubstr("a.jpg says that it is 61466 x 61459: expected at most"));
  // A progressive one is held whole, in two bytes per coefficient.
  EXPECT_THAT(
      message_of([&] { decode_image(jpeg_of("progressive_444.jpg", 0xC2, 0x0F), "a.jpg"); }),
      AllOf(HasSubstr("a.jpg says that it is 38"), HasSubstr("bytes cannot hold")));
}

TEST(ImageFile, KnowsImagesByTheirNames) {
  EXPECT_TRUE(is_image_name("a/b.PNG"));
  EXPECT_TRUE(is_image_name("x.jpeg"));
  EXPECT_FALSE(is_image_name("x.webp"));
  EXPECT_FALSE(is_image_name("png"));
}

}  // namespace
}  // namespace vggflow
