#include "vggflow/train/shares.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <cmath>
#include <optional>
#include <vector>

#include "vggflow/testing/message.h"
#include "vggflow/testing/ranks.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;

Group group_of(int rank, int size) {
  return {Place{.launcher = "test", .rank = rank, .size = size}, nullptr};
}

struct Trained {
  Tensor weight = at::ones({3}), other = at::ones({2});
  TrainState state{{{"weight", &weight}}, {}, 0.9, {{"other", &other}}, {}};
};

TEST(Shares, BelongToProcessesInOrder) {
  const Shares second(group_of(1, 2), 4, 16);
  EXPECT_EQ(second.own(), 2U);
  EXPECT_EQ(second.rows(), 4);
  EXPECT_EQ(second.start(0), 8);
  EXPECT_EQ(second.start(1), 12);
}

TEST(Shares, ThatDoNotFitAreRefused) {
  EXPECT_THAT(testing::message_of([] { Shares({}, 3, 16); }),
              HasSubstr("expected shares that divide batch=16, got 3"));
  EXPECT_THAT(testing::message_of([] { Shares(group_of(0, 3), 4, 16); }),
              HasSubstr("expected a number of processes that divides shares=4, got 3"));
  EXPECT_EQ(Shares({}, 0, 16).rows(), 16);
}

TEST(Shares, OfLatentsAreMoreThanProcesses) {
  EXPECT_EQ(default_shares(32, 1, /*latents=*/true), 1);
  EXPECT_EQ(default_shares(32, 2, /*latents=*/false), 2);
  EXPECT_EQ(default_shares(32, 2, /*latents=*/true), 8);
  EXPECT_EQ(default_shares(20, 2, /*latents=*/true), 4);
  EXPECT_EQ(default_shares(21, 3, /*latents=*/true), 3);
  EXPECT_EQ(default_shares(32, 16, /*latents=*/true), 16);
}

TEST(Shares, GradientsAreAddedInOrder) {
  Trained t;
  Shares({}, 4, 8).run(t.state, [&](size_t i, const Meet& meet) {
    const auto scale = static_cast<double>(i + 1);
    (scale * t.weight).sum().backward();
    const Tensor all = meet(at::full({2}, scale, at::kFloat));
    EXPECT_EQ(all.numel(), 8);
    EXPECT_EQ(all[7].item<double>(), 4);
    (10 * t.weight).sum().backward();
    t.other.sum().backward();
  });
  EXPECT_TRUE(at::equal(t.state.policy.buffer.gradient(), at::full({3}, 50.0)));
  EXPECT_TRUE(at::equal(t.state.value->buffer.gradient(), at::full({2}, 4.0)));
  // Afterwards gradients go where they went before.
  t.state.zero_grad();
  t.weight.sum().backward();
  EXPECT_TRUE(at::equal(t.state.policy.buffer.gradient(), at::ones({3})));
}

TEST(Shares, ANumberThatIsNotFiniteOnOneRankStopsTheStepOfAll) {
  testing::on_threads(2, [](const Group& group) {
    Trained t;
    Shares(group, 4, 8).run(t.state, [&](size_t i, const Meet&) {
      const bool bad = group.rank() == 1 && i == 1;
      ((bad ? std::nan("") : 1.0) * t.weight).sum().backward();
      t.other.sum().backward();
    });
    const double norm = t.state.policy.buffer.clip(1.0), other = t.state.value->buffer.clip(0);
    EXPECT_FALSE(t.state.policy.adamw.step(0.1, norm)) << "rank " << group.rank();
    EXPECT_TRUE(at::equal(t.weight, at::ones({3})));
    EXPECT_TRUE(t.state.value->adamw.step(0.1, other)) << "the other network is untouched by it";
  });
}

// Steps within an update: one per process when all shares have given their gradients, whose sum in
// order it sees, and none is left for the sum at the end.
TEST(Shares, TakeTheValueNetworksStepsTogether) {
  for (const int64_t count : {1, 4}) {
    Trained t;
    const Shares shares({}, count, 8);
    std::vector<double> seen;
    shares.run(t.state, [&](size_t i, const Meet& meet) {
      for (const double part : {1.0, 10.0}) {
        (part * static_cast<double>(i + 1) * t.other).sum().backward();
        shares.step_value(t.state, meet, [&] {
          seen.push_back(t.state.value->buffer.gradient()[0].item<double>());
        });
      }
      (5 * t.other).sum().backward();
    });
    EXPECT_EQ(seen, count == 1 ? (std::vector{1.0, 10.0}) : (std::vector{10.0, 100.0}));
    EXPECT_TRUE(at::equal(t.state.value->buffer.gradient(),
                          at::full({2}, 5.0 * static_cast<double>(count))));
  }
}

TEST(Shares, OfOneRunAsTheyAre) {
  Trained t;
  Shares({}, 1, 8).run(t.state, [&](size_t, const Meet& meet) {
    EXPECT_FALSE(meet);
    t.weight.sum().backward();
  });
  EXPECT_TRUE(at::equal(t.state.policy.buffer.gradient(), at::ones({3})));
}

}  // namespace
}  // namespace vggflow
