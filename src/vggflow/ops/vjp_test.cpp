#include "vggflow/ops/vjp.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;
using testing::message_of;
using testing::random_double;

TEST(Vjp, PullsACotangentBackThroughTheTransposedMatrix) {
  const Tensor a = random_double({3, 5}, 0), x = random_double({5}, 1), c = random_double({3}, 2);
  const auto f = [&](const Tensor& y) { return a.matmul(y); };
  EXPECT_TRUE(at::allclose(vjp(f, x, c), a.t().matmul(c), 1e-14, 1e-14));
  const auto [value, pulled] = value_and_vjp(f, x, c);
  EXPECT_TRUE(at::equal(value, a.matmul(x)));
  EXPECT_TRUE(at::equal(pulled, vjp(f, x, c)));
  EXPECT_FALSE(value.requires_grad());
  EXPECT_FALSE(pulled.requires_grad());
}

TEST(Vjp, GivesEachRowTheGradientOfItsOwnEntry) {
  const Tensor x = random_double({4, 3}, 3);
  const auto squares = [](const Tensor& y) { return 0.5 * y.square().sum(1); };
  const auto [value, gradient] = value_and_gradient(squares, x);
  EXPECT_TRUE(at::equal(value, squares(x)));
  EXPECT_TRUE(at::allclose(gradient, x, 1e-15, 1e-15));
  EXPECT_TRUE(at::equal(gradient_of(squares, x), gradient));
}

TEST(Vjp, IsWhatAutogradGivesForALeafBitForBit) {
  const Tensor x = random_double({4, 3}, 4).to(at::kFloat), c = random_double({4, 3}, 5, 10);
  const auto f = [](const Tensor& y) { return y.sin() * y.exp(); };
  const Tensor leaf = x.clone().requires_grad_(true), cotangent = c.to(at::kFloat);
  EXPECT_TRUE(
      at::equal(vjp(f, x, cotangent), torch::autograd::grad({f(leaf)}, {leaf}, {cotangent})[0]));
  EXPECT_TRUE(at::equal(gradient_of(f, x), torch::autograd::grad({f(leaf).sum()}, {leaf})[0]));
}

TEST(Vjp, WorksWhereGradientsAreOffAndLeavesThemOff) {
  at::NoGradGuard no_grad;
  const Tensor x = random_double({2, 3}, 6);
  EXPECT_TRUE(at::allclose(gradient_of([](const Tensor& y) { return y.square(); }, x), 2 * x));
  EXPECT_FALSE(at::GradMode::is_enabled());
}

TEST(Vjp, TouchesNeitherParametersNorTheGraphBehindItsArguments) {
  const Tensor weight = random_double({3}, 7).requires_grad_(true);
  const Tensor x = weight * 2, c = weight * 3;
  const auto f = [&](const Tensor& y) { return weight * y; };
  EXPECT_TRUE(at::allclose(vjp(f, x, c), (weight * c).detach()));
  EXPECT_FALSE(weight.grad().defined());
  EXPECT_FALSE(vjp(f, x, c).requires_grad());
}

TEST(Vjp, RefusesAFunctionWithoutGraphAndACotangentOfAnotherShape) {
  const Tensor x = random_double({2, 3}, 8);
  EXPECT_THAT(message_of([&] { gradient_of([](const Tensor& y) { return y.detach(); }, x); }),
              HasSubstr("[vjp] expected a function that is differentiable in its input, got a "
                        "value of shape [2, 3] without a graph"));
  EXPECT_THAT(message_of([&] { vjp([](const Tensor& y) { return y.sin(); }, x, x[0]); }),
              HasSubstr("[vjp] expected a cotangent of the value's shape [2, 3], got [3]"));
}

}  // namespace
}  // namespace vggflow
