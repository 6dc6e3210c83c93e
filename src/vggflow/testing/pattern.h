#pragma once
// Numbers that C++ and tools/reference/conv_reference.py make by the same integers: networks of
// full size are compared without storing weights.

#include <ATen/ATen.h>

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "vggflow/ops/dual.h"

namespace vggflow::testing {

/// fp64 numbers in [0, 1), keyed by a name.
inline Tensor pattern(const std::string& name, at::IntArrayRef shape) {
  uint64_t key = 0x811C9DC5;
  for (const char c : name) key = ((key ^ static_cast<uint8_t>(c)) * 0x01000193) & 0xFFFFFFFF;
  Tensor out = at::empty(shape, at::kDouble);
  double* p = out.mutable_data_ptr<double>();
  for (int64_t i = 0; i < out.numel(); ++i) {
    uint64_t x = (static_cast<uint64_t>(i) + key) & 0x7FFFFFFF;
    for (const auto& [factor, shift] :
         {std::pair{1103515245, 15}, {1597334677, 13}, {1103515245, 16}}) {
      x = (x * static_cast<uint64_t>(factor) + 12345) & 0x7FFFFFFF;
      x ^= x >> shift;
    }
    p[i] = static_cast<double>(x) / 2147483648.0;
  }
  return out;
}

/// A parameter by its name in a state dictionary: weights by fan-in, variances in [0.5, 1.5), gains
/// around 1, the rest around 0.
inline Tensor pattern_weight(const std::string& name, at::IntArrayRef shape) {
  if (shape.empty()) return at::zeros({}, at::kLong);
  const Tensor u = pattern(name, shape);
  if (shape.size() >= 2)
    return ((u - 0.5) * (2 * std::sqrt(6.0 / static_cast<double>(u[0].numel())))).to(at::kFloat);
  if (name.ends_with("running_var")) return (u + 0.5).to(at::kFloat);
  if (name.ends_with("bias") || name.ends_with("running_mean"))
    return (0.4 * (u - 0.5)).to(at::kFloat);
  return (0.75 + 0.5 * u).to(at::kFloat);
}

/// Four images (4, 3, 64, 64) in [0, 1], computed in `dtype`: colour waves of growing frequency
/// with a soft disc, synthetic_images() of tools/reference/conv_reference.py and vae_reference.py.
inline Tensor synthetic_images(at::ScalarType dtype) {
  const Tensor y = at::arange(64, dtype).view({64, 1}), x = at::arange(64, dtype).view({1, 64});
  std::vector<Tensor> images;
  for (int k = 0; k < 4; ++k) {
    const double f = 0.05 * (k + 1);
    const Tensor disc =
        at::sigmoid((12 + 3 * k - at::sqrt(at::square(x - 30) + at::square(y - 34))) / 1.5);
    const double colour[] = {0.85, 0.2 + 0.15 * k, 0.3};
    std::vector<Tensor> channels;
    for (int c = 0; c < 3; ++c) {
      const Tensor wave = 0.5 + 0.3 * at::sin(f * x + 0.7 * c) * at::cos(f * y - 0.4 * c);
      channels.push_back(wave * (1 - disc) + disc * colour[c]);
    }
    images.push_back(at::stack(channels));
  }
  return at::stack(images);
}

}  // namespace vggflow::testing
