// Checkpointing counts its forward passes, frees what lies between, and changes no gradient.
#include "vggflow/nn/checkpoint.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "vggflow/core/error.h"
#include "vggflow/nn/lora.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

using testing::message_of;
using testing::random_double;

/// linear_2(silu(linear_1(x))) that counts its calls and watches the tensor in the middle.
class Counting : public Module {
 public:
  Counting() : linear_1(5, 7), linear_2(7, 5) {
    add("linear_1", linear_1);
    add("linear_2", linear_2);
    linear_1.weight = random_double({7, 5}, 1);
    linear_1.bias = random_double({7}, 2);
    linear_2.weight = random_double({5, 7}, 3);
    linear_2.bias = random_double({5}, 4);
    set_requires_grad(true);
  }
  template <TensorLike T>
  T forward(const T& x) const {
    ++calls;
    const T middle = ops::silu(linear_1.forward(x));
    between = c10::weak_intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl>(
        primal(middle).getIntrusivePtr());
    return linear_2.forward(middle);
  }
  std::vector<Tensor> inputs(const Tensor& x) const {
    std::vector<Tensor> all{x};
    for (const NamedTensor& p : parameters()) all.push_back(*p.tensor);
    return all;
  }
  Linear linear_1, linear_2;
  mutable int calls = 0;
  mutable c10::weak_intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl> between{
      c10::intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl>()};
};

void expect_equal(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(at::equal(a[i], b[i])) << i;
}

TEST(Checkpoint, RunsForwardTwiceAndGivesTheSameGradients) {
  const Counting block;
  const Tensor x = random_double({3, 5}, 5).requires_grad_(true), w = random_double({3, 5}, 6);
  const auto plain = torch::autograd::grad({(block.forward(x) * w).sum()}, block.inputs(x));
  EXPECT_EQ(block.calls, 1);
  const Tensor y = checkpoint(block, x);
  EXPECT_EQ(block.calls, 2);
  const auto again = torch::autograd::grad({(y * w).sum()}, block.inputs(x));
  EXPECT_EQ(block.calls, 3);
  expect_equal(again, plain);
}

TEST(Checkpoint, FreesWhatLiesBetween) {
  const Counting block;
  const Tensor x = random_double({3, 5}, 5).requires_grad_(true);
  const Tensor plain = block.forward(x);
  EXPECT_FALSE(block.between.expired());
  const Tensor y = checkpoint(block, x);
  EXPECT_TRUE(block.between.expired());
}

TEST(Checkpoint, RunsOnceWhereNoGradientIsAskedFor) {
  Counting block;
  const Tensor x = random_double({3, 5}, 5);
  {
    const at::NoGradGuard no_grad;
    EXPECT_FALSE(checkpoint(block, x).requires_grad());
  }
  block.set_requires_grad(false);
  EXPECT_FALSE(checkpoint(block, x).requires_grad());
  EXPECT_EQ(block.calls, 2);
}

// The gradient of <w, tangent>: what a Hessian-vector product through a frozen block needs.
TEST(Checkpoint, GradientsRunThroughTangents) {
  Counting block;
  block.set_requires_grad(false);
  const Tensor x = random_double({3, 5}, 5).requires_grad_(true),
               dx = random_double({3, 5}, 7).requires_grad_(true), w = random_double({3, 5}, 6);
  const auto gradients = [&](const Dual& y) {
    return torch::autograd::grad({(y.tangent * w).sum() + y.value.sum()}, {x, dx});
  };
  const auto plain = gradients(block.forward(Dual{x, dx}));
  const auto again = gradients(checkpoint(block, Dual{x, dx}));
  EXPECT_EQ(block.calls, 3);
  expect_equal(again, plain);
}

// The policy's graph is walked after the base model has run: the adapters are off by then.
TEST(Checkpoint, AdaptersRunAgainInTheModeOfTheFirstPass) {
  Counting block;
  block.set_requires_grad(false);
  block.linear_1.lora = {random_double({2, 5}, 8).requires_grad_(true),
                         random_double({7, 2}, 9).requires_grad_(true), 0.5};
  const std::vector<Tensor> adapters{block.linear_1.lora.a, block.linear_1.lora.b};
  const Tensor x = random_double({3, 5}, 5);
  block.linear_1.adapter = AdapterMode::kOn;
  const auto plain = torch::autograd::grad({block.forward(x).square().sum()}, adapters);
  const Tensor y = checkpoint(block, x);
  block.linear_1.adapter = AdapterMode::kOff;
  expect_equal(torch::autograd::grad({y.square().sum()}, adapters), plain);
  EXPECT_EQ(block.linear_1.adapter, AdapterMode::kOff);
}

TEST(Checkpoint, RefusesSecondDerivatives) {
  const Counting block;
  const Tensor x = random_double({3, 5}, 5).requires_grad_(true);
  const Tensor y = checkpoint(block, x);
  EXPECT_THAT(message_of([&] {
                torch::autograd::grad({y.sum()}, {x}, {}, /*retain_graph=*/true,
                                      /*create_graph=*/true);
              }),
              ::testing::HasSubstr("second derivatives cannot run through a checkpointed block"));
}

}  // namespace
}  // namespace vggflow
