// Reverse mode and tangents of every function against central differences in float64, and the
// definitions where they are short.
#include "vggflow/ops/convolutional.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "vggflow/testing/gradient_check.h"

namespace vggflow {
namespace {

using testing::gradient_error;
using testing::random_double;
using testing::relative_error;
using testing::tangent_error;

struct Case {
  const char* name;
  std::function<Tensor(const Tensor&)> f;
  std::function<Dual(const Dual&)> f_dual;
};

#define VGGFLOW_CASE(expression)                                       \
  Case {                                                               \
    #expression, [](const Tensor& x) -> Tensor { return expression; }, \
        [](const Dual& x) -> Dual { return expression; }               \
  }

Tensor kernel() { return random_double({4, 3, 1, 3}, 7, 0.5); }
Tensor bias() { return random_double({4}, 8); }

std::vector<Case> cases() {
  return {
      VGGFLOW_CASE(ops::relu6(x)),
      VGGFLOW_CASE(ops::logsumexp(x, 1, false)),
      VGGFLOW_CASE(ops::softmax(x, 1)),
      VGGFLOW_CASE(ops::padded_conv2d(x, kernel(), bias(), 2, {0, 0, 1, 1}, 1)),
      VGGFLOW_CASE(ops::padded_conv2d(x, kernel(), bias(), 2, {0, 1, 0, 1}, 1)),
      VGGFLOW_CASE(ops::max_pool2d(x, 3, 2, 0)),
      VGGFLOW_CASE(ops::max_pool2d(x, 3, 1, 1)),
      VGGFLOW_CASE(ops::mean_around(x)),
      VGGFLOW_CASE(ops::resize_tensorflow1(x, 11, 4)),
  };
}

Tensor input() { return 4 * random_double({2, 3, 6, 7}, 1); }

TEST(Convolutional, GradientsEqualCentralDifferences) {
  for (const Case& c : cases())
    EXPECT_LT(gradient_error([&](const auto& v) { return c.f(v[0]); }, {input()}), 1e-8) << c.name;
}

TEST(Convolutional, TangentsEqualCentralDifferences) {
  for (const Case& c : cases()) {
    EXPECT_LT(tangent_error([&](const auto& v) { return c.f(v[0]); },
                            [&](const auto& v) { return c.f_dual(v[0]); }, {input()}),
              1e-8)
        << c.name;
  }
}

// d/dx <grad f, d> by reverse mode through the tangent, for the two functions that are curved.
TEST(Convolutional, ReverseModeRunsThroughTangents) {
  const Tensor point = input(), d = random_double(point.sizes(), 2),
               weights = random_double({2, 3, 6, 7}, 3);
  for (const Case& c :
       {VGGFLOW_CASE(ops::softmax(x, 1)), VGGFLOW_CASE(ops::logsumexp(x, 1, true))}) {
    const auto slope = [&](const Tensor& at) {
      return (c.f_dual({at, d}).tangent * weights).sum();
    };
    EXPECT_LT(gradient_error([&](const auto& v) { return slope(v[0]); }, {point}), 1e-8) << c.name;
  }
}

TEST(Convolutional, TheMeanAtTheBorderLeavesTheZerosOut) {
  EXPECT_TRUE(at::allclose(ops::mean_around(at::ones({1, 1, 4, 5})), at::ones({1, 1, 4, 5})));
}

// Twice the size: every second place is an old one, those between are means, and the last repeats
// (TensorFlow 1 reads at i / 2).
TEST(Convolutional, TensorFlow1ResizesFromTheCorner) {
  const Tensor x = at::tensor({0.0, 1.0, 4.0}).view({1, 1, 1, 3});
  EXPECT_TRUE(at::allclose(ops::resize_tensorflow1(x, 1, 6).flatten(),
                           at::tensor({0.0, 0.5, 1.0, 2.5, 4.0, 4.0})));
}

}  // namespace
}  // namespace vggflow
