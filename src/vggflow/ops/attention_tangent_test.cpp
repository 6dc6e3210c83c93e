// Attention on pairs in tiles of query rows against the whole matrices: values, tangents, gradients
// through both, memory, and what narrow types cost.
#include "vggflow/ops/attention_tangent.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cstdio>
#include <optional>
#include <utility>
#include <vector>

#include "vggflow/ops/functional.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/memory_meter.h"
#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;
using testing::MemoryMeter;
using testing::message_of;
using testing::random_double;
using testing::scaled_error;

// q, k, v and their tangents, (B, H, N or M, d).
struct Inputs {
  std::vector<Tensor> all;
  Dual q() const { return {all[0], all[3]}; }
  Dual k() const { return {all[1], all[4]}; }
  Dual v() const { return {all[2], all[5]}; }
  Inputs to(at::ScalarType dtype) const {
    Inputs out;
    for (const Tensor& x : all) out.all.push_back(x.detach().to(dtype));
    return out;
  }
};

Inputs make_inputs(int64_t n, int64_t m, int64_t d = 4) {
  Inputs x;
  for (uint64_t i = 0; i < 6; ++i)
    x.all.push_back(random_double({2, 3, i % 3 == 0 ? n : m, d}, i).requires_grad_(true));
  return x;
}

constexpr int64_t kDouble = sizeof(double);

// Tiles that divide the rows and that do not, one row, whole heads, groups of two of the three.
TEST(AttentionTangent, TilesGiveWhatTheWholeMatrixGives) {
  for (const auto& [n, m] : {std::pair<int64_t, int64_t>{7, 7}, {150, 40}, {16, 300}}) {
    const Inputs x = make_inputs(n, m);
    for (const Tensor& bias : {Tensor(), random_double({2, 1, 1, m}, 9)}) {
      const Dual want = ops::attend_whole(x.q(), x.k(), x.v(), bias);
      const Tensor w = random_double(want.value.sizes(), 7),
                   dw = random_double(want.value.sizes(), 8);
      const auto gradient = [&](const Dual& y) {
        return torch::autograd::grad({(w * y.value).sum() + (dw * y.tangent).sum()}, x.all);
      };
      const auto want_gradient = gradient(want);
      for (const int64_t rows : {int64_t{1}, int64_t{4}, n, 2 * n, int64_t{1000}}) {
        SCOPED_TRACE(fmt::format("{} queries, {} keys, tiles of {} rows", n, m, rows));
        const Dual got = ops::attend_in_tiles(x.q(), x.k(), x.v(), bias, rows * m * kDouble);
        EXPECT_LT(scaled_error(got.value, want.value), 1e-12);
        EXPECT_LT(scaled_error(got.tangent, want.tangent), 1e-12);
        const auto got_gradient = gradient(got);
        for (size_t i = 0; i < 6; ++i)
          EXPECT_LT(scaled_error(got_gradient[i], want_gradient[i]), 1e-9) << "input " << i;
      }
    }
  }
}

TEST(AttentionTangent, AGradientOfTheValueOrTheTangentAloneIsRight) {
  const Inputs x = make_inputs(20, 20);
  const auto gradient = [&](const Tensor& y) {
    return torch::autograd::grad({(random_double(y.sizes(), 7) * y).sum()}, x.all, {},
                                 /*retain_graph=*/true,
                                 /*create_graph=*/false, /*allow_unused=*/true);
  };
  const Dual want = ops::attend_whole(x.q(), x.k(), x.v(), {}),
             got = ops::attend_in_tiles(x.q(), x.k(), x.v(), {}, 8 * 20 * kDouble);
  const auto value_want = gradient(want.value), value_got = gradient(got.value);
  for (size_t i = 0; i < 3; ++i) EXPECT_LT(scaled_error(value_got[i], value_want[i]), 1e-9) << i;
  for (size_t i = 3; i < 6; ++i) EXPECT_EQ(value_got[i].abs().max().item<double>(), 0) << i;
  const auto tangent_want = gradient(want.tangent), tangent_got = gradient(got.tangent);
  for (size_t i = 0; i < 6; ++i)
    EXPECT_LT(scaled_error(tangent_got[i], tangent_want[i]), 1e-9) << i;
}

TEST(AttentionTangent, LongSequencesGoInTilesAndShortOnesWhole) {
  const auto peak = [](int64_t n) {
    const Tensor qkv = at::randn({1, n, 3 * 4 * 8});
    const MemoryMeter meter;
    ops::attention(Dual{qkv, qkv}, 4);
    return meter.peak() / static_cast<double>(4 * n * n * 4);  // in matrices of all heads
  };
  EXPECT_GT(peak(512), 2);
  EXPECT_LT(peak(2048), 0.5);
}

// The 24 heads of SD3-medium at 1024 px: one head's whole matrix of scores has 78 MB in fp32.
TEST(AttentionTangent, TakesLittleAtTheSizeOfLargeImages) {
  const Tensor qkv = at::randn({1, 4429, 3 * 24 * 64}).to(at::kBFloat16);
  const MemoryMeter meter;
  ops::attention(Dual{qkv, qkv}, 24);
  std::printf("24 heads of 64 at 4429 tokens: %.0f MB at most beside the inputs\n",
              meter.peak() / 1e6);
  EXPECT_LT(meter.peak(), 100e6);
}

TEST(AttentionTangent, NarrowTypesAreSummedInFloat) {
  const Inputs narrow = make_inputs(150, 150, 16).to(at::kBFloat16), wide = narrow.to(at::kDouble);
  const Dual got = ops::attend_in_tiles(narrow.q(), narrow.k(), narrow.v(), {}, 4 * 150 * 32),
             want = ops::attend_whole(wide.q(), wide.k(), wide.v(), {});
  ASSERT_EQ(got.value.scalar_type(), at::kBFloat16);
  ASSERT_EQ(got.tangent.scalar_type(), at::kBFloat16);
  EXPECT_LT(scaled_error(got.value, want.value), 1.0 / 256);
  EXPECT_LT(scaled_error(got.tangent, want.tangent), 1.0 / 256);
}

TEST(AttentionTangent, TilesRefuseSecondDerivatives) {
  const Inputs x = make_inputs(20, 20);
  const Dual y = ops::attend_in_tiles(x.q(), x.k(), x.v(), {}, 8 * 20 * kDouble);
  EXPECT_THAT(message_of([&] {
                torch::autograd::grad({y.tangent.sum()}, x.all, {}, std::nullopt,
                                      /*create_graph=*/true);
              }),
              HasSubstr("second derivatives cannot run through the tangent of attention"));
}

}  // namespace
}  // namespace vggflow
