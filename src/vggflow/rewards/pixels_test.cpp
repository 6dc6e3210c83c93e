// The soft clamp of pixels; the other clamps are in reward_test.cpp.
#include "vggflow/rewards/pixels.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <tuple>
#include <vector>

#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

using testing::gradient_error;
using testing::relative_error;
using testing::tangent_error;

Tensor soft(const Tensor& y) { return to_pixels(2 * y - 1, "soft"); }
// Pixels on both sides of the range, none of them on its inner edges.
Tensor pixels() { return at::linspace(-0.613, 1.587, 89, at::kDouble); }

TEST(SoftClamp, LeavesTheMiddleAloneAndStaysInsideTheRange) {
  const Tensor y = pixels(), z = soft(y);
  const Tensor inside = (y >= 0.05) & (y <= 0.95);
  EXPECT_LT(((z - y) * inside).abs().max().item<double>(), 1e-15);
  EXPECT_TRUE(((z > 0) & (z < 1)).all().item<bool>());
  EXPECT_TRUE((z.narrow(0, 1, 88) > z.narrow(0, 0, 88)).all().item<bool>())
      << "it grows everywhere";
  EXPECT_LT(relative_error(soft(1 - y), 1 - z), 1e-12) << "black and white are treated alike";
}

TEST(SoftClamp, HasTheDocumentedValuesAndSlopes) {
  for (const auto& [y, value, slope] :
       {std::tuple{1.0, 0.95 + 0.05 / std::sqrt(2.0), std::pow(2.0, -1.5)},
        {1.2, 0.95 + 0.05 * 5 / std::sqrt(26.0), std::pow(26.0, -1.5)},
        {0.5, 0.5, 1.0}}) {
    const Tensor leaf = at::full({1}, y, at::kDouble).requires_grad_(true);
    const Tensor z = soft(leaf);
    EXPECT_NEAR(z.item<double>(), value, 1e-12) << y;
    EXPECT_NEAR(torch::autograd::grad({z}, {leaf})[0].item<double>(), slope, 1e-12) << y;
  }
}

TEST(SoftClamp, AllDerivativesEqualCentralDifferences) {
  const Tensor x = 2 * pixels() - 1, dx = testing::random_double(x.sizes(), 3);
  EXPECT_LT(
      gradient_error([](const std::vector<Tensor>& v) { return to_pixels(v[0], "soft"); }, {x}),
      1e-8);
  EXPECT_LT(tangent_error([](const std::vector<Tensor>& v) { return to_pixels(v[0], "soft"); },
                          [](const std::vector<Dual>& v) { return to_pixels(v[0], "soft"); }, {x}),
            1e-8);
  EXPECT_LT(
      gradient_error(
          [&](const std::vector<Tensor>& v) { return to_pixels(Dual{v[0], dx}, "soft").tangent; },
          {x}),
      1e-7);
}

TEST(Pixels, AnUnknownClampIsRefused) {
  EXPECT_EQ(testing::message_of([] { to_pixels(at::zeros({1}), "sort"); }),
            "[pixels] expected clamp hard, straight_through, soft or none, got 'sort'");
}

}  // namespace
}  // namespace vggflow
