// A block of joint attention in one call against its composition, over odd sizes.
#include "vggflow/ops/joint_block.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "vggflow/device/device.h"
#include "vggflow/kernels/narrow.h"

namespace vggflow {
namespace {

constexpr double kEps = 1e-6;

using ops::RandomBlock;

TEST(JointBlock, EqualsItsCompositionOverOddSizes) {
  if (!kernels::narrow_kernels()) GTEST_SKIP() << "this processor has no dot products of bf16";
  struct Sizes {
    int64_t batch, image, text, heads, head_dim;
    bool text_ends;
  };
  for (const Sizes& s : {Sizes{5, 64, 12, 5, 32, false}, Sizes{1, 1, 1, 1, 2, false},
                         Sizes{3, 7, 3, 2, 10, true}, Sizes{2, 65, 1, 3, 40, false},
                         Sizes{4, 9, 16, 2, 64, true}, Sizes{1, 200, 33, 1, 34, false}}) {
    SCOPED_TRACE(fmt::format("{} x ({} + {}), {} heads of {}", s.batch, s.image, s.text, s.heads,
                             s.head_dim));
    const RandomBlock b(s.batch, s.image, s.text, s.heads, s.head_dim, s.text_ends);
    ASSERT_TRUE(b.taken());
    EXPECT_LT(b.error(), 8e-3);
  }
}

// A difference keeps its own 8 bits, however small it is beside the value. One eight times as large
// sharpens attention so far that a rounding of the scores shows.
TEST(JointBlock, PairsCarryADifferenceOfAnySize) {
  if (!kernels::narrow_kernels()) GTEST_SKIP() << "this processor has no dot products of bf16";
  const at::NoGradGuard no_graph;
  for (const bool ends : {false, true}) {
    for (const double size : {1e-5, 1e-2, 1.0, 8.0}) {
      SCOPED_TRACE(fmt::format("{}, {}", size, ends));
      const double bound = size > 1 ? 4e-2 : 1.2e-2;
      EXPECT_LT(RandomBlock(3, 64, 12, 5, 32, ends).difference_error(size), bound);
      EXPECT_LT(RandomBlock(2, 7, 3, 2, 10, ends).difference_error(size), bound);
      EXPECT_LT(RandomBlock(1, 130, 9, 2, 34, ends).difference_error(size), bound);
    }
  }
}

TEST(JointBlock, GradientsOfStreamsAndAdaptersEqualTheCompositions) {
  if (!kernels::narrow_kernels()) GTEST_SKIP() << "this processor has no dot products of bf16";
  for (const bool ends : {false, true}) {
    EXPECT_LT(RandomBlock(3, 64, 12, 5, 32, ends).gradient_error(), 1.5e-2);
    EXPECT_LT(RandomBlock(2, 7, 3, 2, 10, ends).gradient_error(), 1.5e-2);
    EXPECT_LT(RandomBlock(1, 130, 9, 2, 34, ends).gradient_error(), 1.5e-2);
    EXPECT_LT(RandomBlock(4, 1, 1, 1, 16, ends).gradient_error(), 1.5e-2);
  }
}

TEST(JointBlock, LeavesItsInputsAndATextThatEndsAsTheyAre) {
  if (!kernels::narrow_kernels()) GTEST_SKIP() << "this processor has no dot products of bf16";
  const RandomBlock b(3, 9, 5, 2, 16, true);
  const Tensor before = b.image.clone();
  Tensor image = b.image, text = b.text;
  ops::joint_block(image, text, b.image_part, b.text_part, b.heads, kEps);
  EXPECT_TRUE(at::equal(before, b.image));
  EXPECT_FALSE(at::equal(before, image));
  EXPECT_TRUE(text.is_same(b.text));
}

TEST(JointBlock, SeesWeightsThatAreWrittenToOrReplaced) {
  if (!kernels::narrow_kernels()) GTEST_SKIP() << "this processor has no dot products of bf16";
  RandomBlock b(2, 9, 3, 2, 16, false);
  const auto result = [](const RandomBlock& block) {
    Tensor image = block.image, text = block.text;
    ops::joint_block(image, text, block.image_part, block.text_part, block.heads, kEps);
    return image;
  };
  const Tensor first = result(b);
  EXPECT_TRUE(at::equal(result(b), first));
  b.image_part.layers.v.weight.mul_(2);
  EXPECT_FALSE(at::equal(result(b), first));
  EXPECT_LT(b.error(), 8e-3);
  const Tensor second = result(b);
  b.text_part.layers.v.bias = b.text_part.layers.v.bias + 1;
  EXPECT_FALSE(at::equal(result(b), second));
  EXPECT_LT(b.error(), 8e-3);
}

TEST(JointBlock, LeavesToTheCompositionWhatItCannotDo) {
  if (!kernels::narrow_kernels()) GTEST_SKIP() << "this processor has no dot products of bf16";
  const auto block = [] { return RandomBlock(2, 9, 3, 2, 16, false); };
  EXPECT_TRUE(block().taken());
  RandomBlock modulation = block();
  modulation.text_part.modulations.shift.requires_grad_(true);
  EXPECT_FALSE(modulation.taken());
  RandomBlock trained = block();
  trained.image_part.layers.in.bias.requires_grad_(true);
  EXPECT_FALSE(trained.taken());
  RandomBlock wide = block();
  wide.image_part.layers.q.weight = wide.image_part.layers.q.weight.to(at::kFloat);
  EXPECT_FALSE(wide.taken());
  RandomBlock adapted = block();
  adapted.image_part.layers.q.a = at::zeros({2, 32});
  EXPECT_TRUE(adapted.taken());
  adapted.image_part.layers.in.a = at::zeros({2, 32});
  EXPECT_FALSE(adapted.taken());
  EXPECT_FALSE(RandomBlock(1, 2, 2, 2, 7, false).taken());
  EXPECT_FALSE(RandomBlock(1, 2, 2, 7, 32, true).taken());
  DeviceOptions off;
  off.device = "cpu";
  off.kernels = Kernels::kPlain;
  const DeviceScope scope(off);
  EXPECT_FALSE(block().taken());
}

}  // namespace
}  // namespace vggflow
