#pragma once
// What convolutional classifiers need beside functional.h, for Tensor and Dual.

#include <array>

#include "vggflow/ops/dual.h"

namespace vggflow::ops {

/// min(max(x, 0), 6).
Tensor relu6(const Tensor& x);
Dual relu6(const Dual& x);

/// log sum exp(x) over one dimension;  d = sum softmax(x) dx.
Tensor logsumexp(const Tensor& x, int64_t dim, bool keepdim);
Dual logsumexp(const Dual& x, int64_t dim, bool keepdim);

/// Softmax P over one dimension;  dP = P (dx - sum P dx).
Tensor softmax(const Tensor& x, int64_t dim);
Dual softmax(const Dual& x, int64_t dim);

/// Zeros around a convolution's input.
struct Padding {
  int64_t top = 0, bottom = 0, left = 0, right = 0;
};

/// Convolution of x (B, C, H, W) with any padding; b may be undefined.
Tensor padded_conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, int64_t stride,
                     const Padding& padding, int64_t groups);
Dual padded_conv2d(const Dual& x, const Tensor& weight, const Tensor& bias, int64_t stride,
                   const Padding& padding, int64_t groups);

/// Largest of windows of k x k; the tangent is the largest one's.
Tensor max_pool2d(const Tensor& x, int64_t k, int64_t stride, int64_t padding);
Dual max_pool2d(const Dual& x, int64_t k, int64_t stride, int64_t padding);

/// Mean of windows of 3 x 3 around each place; at the border of what is inside the image alone, as
/// TensorFlow does.
Tensor mean_around(const Tensor& x);
Dual mean_around(const Dual& x);

/// Bilinear resizing as TensorFlow 1's resize_bilinear without align_corners: output i reads at i *
/// in / out, so that the image moves by up to half a pixel. The scale is rounded to fp32, as there.
Tensor resize_tensorflow1(const Tensor& x, int64_t height, int64_t width);
Dual resize_tensorflow1(const Dual& x, int64_t height, int64_t width);

}  // namespace vggflow::ops
