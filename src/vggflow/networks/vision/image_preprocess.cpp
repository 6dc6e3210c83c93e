#include "vggflow/networks/vision/image_preprocess.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "vggflow/core/error.h"

namespace vggflow {
namespace {

// The other side of an image whose given side becomes `size`, cut off as torchvision and
// transformers do.
int64_t scaled(int64_t side, int64_t given, int64_t size) { return size * side / given; }

Tensor add_border(const Tensor& x, at::IntArrayRef sides) { return at::constant_pad_nd(x, sides); }
Dual add_border(const Dual& x, at::IntArrayRef sides) {
  return {add_border(x.value, sides), add_border(x.tangent, sides)};
}

template <TensorLike T>
T resize(const T& x, int64_t height, int64_t width, const ImagePreprocess& o) {
  return ops::resize(x, height, width, o.interpolation, o.antialias);
}

template <TensorLike T>
T crop(const T& x, const ImagePreprocess& o) {
  const int64_t h = primal(x).size(2), w = primal(x).size(3), shorter = std::min(h, w);
  const T y = resize(x, scaled(h, shorter, o.size), scaled(w, shorter, o.size), o);
  const auto start = [&](int64_t side) {
    const int64_t surplus = side - o.size;
    return o.fit == Fit::kCropTransformers
               ? surplus / 2
               : std::lrint(static_cast<double>(surplus) / 2);  // lrint: to even
  };
  return ops::narrow(ops::narrow(y, 2, start(primal(y).size(2)), o.size), 3,
                     start(primal(y).size(3)), o.size);
}

template <TensorLike T>
T fit_padded(const T& x, const ImagePreprocess& o) {
  const int64_t h = primal(x).size(2), w = primal(x).size(3);
  const double scale = static_cast<double>(o.size) / static_cast<double>(std::max(h, w));
  const auto side = [&](int64_t n) {
    return std::max<int64_t>(1, std::lrint(static_cast<double>(n) * scale));
  };
  const int64_t rows = o.size - side(h), columns = o.size - side(w);
  return add_border(resize(x, side(h), side(w), o),
                    {columns / 2, columns - columns / 2, rows / 2, rows - rows / 2});
}

template <TensorLike T>
T squared(const T& x, const ImagePreprocess& o) {
  if (o.fit == Fit::kPad) return fit_padded(x, o);
  if (o.fit == Fit::kStretch) return resize(x, o.size, o.size, o);
  return crop(x, o);
}

}  // namespace

std::string describe(const ImagePreprocess& o) {
  const char* fit = o.fit == Fit::kPad       ? "the longer side to"
                    : o.fit == Fit::kStretch ? "stretched to"
                                             : "the shorter side to";
  const char* rest = o.fit == Fit::kPad       ? ", black around it"
                     : o.fit == Fit::kStretch ? ""
                                              : ", its middle";
  return fmt::format(
      "{} {}{}, {}{}; standardised by {:.3g} +- {:.3g}, {:.3g} +- {:.3g}, {:.3g} +- {:.3g}", fit,
      o.size, rest, o.interpolation == ops::Interpolation::kBicubic ? "bicubic" : "bilinear",
      o.antialias ? ", antialiased" : "", o.mean[0], o.deviation[0], o.mean[1], o.deviation[1],
      o.mean[2], o.deviation[2]);
}

template <TensorLike T>
T preprocess(const T& images, const ImagePreprocess& o) {
  const Tensor& x = primal(images);
  VGGFLOW_CHECK(x.dim() == 4 && x.size(1) == 3 && x.size(2) > 0 && x.size(3) > 0,
                "[preprocess] expected images (B, 3, H, W), got {}", shape_string(x));
  const auto channels = [&](const std::array<double, 3>& v) {
    return at::tensor(v, x.options()).view({1, 3, 1, 1});
  };
  return (squared(images, o) + channels(o.mean) * -1) * channels(o.deviation).reciprocal();
}
template Tensor preprocess(const Tensor&, const ImagePreprocess&);
template Dual preprocess(const Dual&, const ImagePreprocess&);

}  // namespace vggflow
