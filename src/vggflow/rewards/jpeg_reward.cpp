#include "vggflow/rewards/jpeg_reward.h"

#include <torch/csrc/autograd/grad_mode.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
// libjpeg's header needs stdio's.
#include <jpeglib.h>

#include "vggflow/core/error.h"
#include "vggflow/io/image.h"

namespace vggflow {
namespace {

// libjpeg's own handler ends the process; what it hands over here is ours alone, so an error is a defect.
void on_error(j_common_ptr codec) {
  char text[JMSG_LENGTH_MAX];
  codec->err->format_message(codec, text);
  fail("[jpeg] libjpeg could not encode an image: {}", text);
}

unsigned long jpeg_size(const Image& image, int quality) {
  VGGFLOW_CHECK(std::min(image.width, image.height) > 0 && std::max(image.width, image.height) <= JPEG_MAX_DIMENSION,
                "[jpeg] expected images of 1 to {} pixels a side, got {}x{}", JPEG_MAX_DIMENSION, image.width, image.height);
  jpeg_compress_struct codec{};
  jpeg_error_mgr errors{};
  codec.err = jpeg_std_error(&errors);
  errors.error_exit = on_error;
  jpeg_create_compress(&codec);
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&codec, &bytes, &size);
  codec.image_width = static_cast<JDIMENSION>(image.width);
  codec.image_height = static_cast<JDIMENSION>(image.height);
  codec.input_components = 3;
  codec.in_color_space = JCS_RGB;
  jpeg_set_defaults(&codec);
  jpeg_set_quality(&codec, quality, /*force_baseline=*/TRUE);
  jpeg_start_compress(&codec, TRUE);
  while (codec.next_scanline < codec.image_height) {
    auto* row = const_cast<JSAMPROW>(image.rgb.data() + 3 * image.width * static_cast<int64_t>(codec.next_scanline));
    jpeg_write_scanlines(&codec, &row, 1);
  }
  jpeg_finish_compress(&codec);
  jpeg_destroy_compress(&codec);
  std::free(bytes);
  return size;
}

}  // namespace

Tensor JpegReward::score(const Tensor& images, const std::vector<std::string>&) const {
  if (images.requires_grad() && torch::autograd::GradMode::is_enabled()) fail_without_gradient("jpeg");
  std::vector<double> sizes;
  for (int64_t i = 0; i < images.size(0); ++i) sizes.push_back(static_cast<double>(jpeg_size(to_image(images[i]), quality_)));
  return at::tensor(sizes).to(images.scalar_type());
}

Dual JpegReward::score(const Dual&, const std::vector<std::string>&) const { fail_without_gradient("jpeg"); }

}  // namespace vggflow
