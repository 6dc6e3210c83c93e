#include "vggflow/c_api/images.h"

#include <ATen/ATen.h>

#include <cmath>

#include "vggflow/core/error.h"

namespace vggflow::c_api {
namespace {

// The caller's memory itself.
at::Tensor view(const vggflow_images& images) {
  const auto [count, height, width, layout, data] = images;
  return layout == VGGFLOW_FLOAT_NCHW ? at::from_blob(data, {count, 3, height, width}, at::kFloat)
                                      : at::from_blob(data, {count, height, width, 3}, at::kByte);
}

}  // namespace

void check_images(const vggflow_images* images) {
  VGGFLOW_CHECK(images && images->data, "[images] expected images, got NULL");
  VGGFLOW_CHECK(images->count >= 1 && images->height >= 1 && images->width >= 1,
                "[images] expected one image or more, of one pixel or more a side, got {} of {} x "
                "{}",
                images->count, images->width, images->height);
  VGGFLOW_CHECK(images->layout == VGGFLOW_FLOAT_NCHW || images->layout == VGGFLOW_UINT8_NHWC,
                "[images] expected the layout VGGFLOW_FLOAT_NCHW (0) or VGGFLOW_UINT8_NHWC (1), "
                "got {}",
                images->layout);
}

at::Tensor to_tensor(const vggflow_images& images) {
  if (images.layout == VGGFLOW_UINT8_NHWC)
    return (view(images).permute({0, 3, 1, 2}).to(at::kFloat) / 255).contiguous();
  const at::Tensor floats = view(images).clone();
  const double low = floats.min().item<double>(), high = floats.max().item<double>();
  VGGFLOW_CHECK(!std::isnan(low),
                "[images] expected floats in [0, 1], got NaN: look at where the "
                "images come from");
  VGGFLOW_CHECK(low >= 0 && high <= 1,
                "[images] expected floats in [0, 1], got {:g} to {:g}; of 0 to 255 pass bytes", low,
                high);
  return floats;
}

void write_images(const at::Tensor& from, int64_t first, const vggflow_images& to) {
  const at::Tensor x = from.to(at::kCPU, at::kFloat).clamp(0, 1);
  at::Tensor rows = view(to).narrow(0, first, x.size(0));
  if (to.layout == VGGFLOW_UINT8_NHWC)
    rows.copy_((x * 255).round().to(at::kByte).permute({0, 2, 3, 1}));
  else
    rows.copy_(x);
}

}  // namespace vggflow::c_api
