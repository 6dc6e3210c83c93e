#include "vggflow/report/thumbnail.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "vggflow/core/error.h"
#include "vggflow/io/image_file.h"
#include "vggflow/ops/resize.h"
#include "vggflow/report/plot.h"

namespace vggflow {

std::string thumbnail(const Tensor& pixels, int64_t side, const std::string& description) {
  const int64_t height = pixels.size(1), width = pixels.size(2), longer = std::max(height, width);
  const auto element = [&](const char* type, const std::vector<uint8_t>& bytes) {
    return fmt::format("<img loading='lazy' alt='{}' title='{}' src='data:image/{};base64,{}'>",
                       escape_html(description), escape_html(description), type, base64(bytes));
  };
  if (longer <= 64) return element("png", encode_png(to_image(pixels)));
  Tensor small = pixels;
  if (longer > side) {
    const auto shrunk = [&](int64_t length) {
      return std::max<int64_t>(1, (length * side + longer / 2) / longer);
    };
    small = ops::resize_pixels(pixels.unsqueeze(0), shrunk(height), shrunk(width)).squeeze(0);
  }
  return element("jpeg", encode_jpeg(to_image(small), 85));
}

}  // namespace vggflow
