#include "vggflow/dist/take_turns.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>

#include <string>

#include "vggflow/core/error.h"
#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;

Tensor numbers(double value) { return at::full({1}, value, at::kDouble); }

TEST(TakeTurns, PiecesRunOneByOneAndMeetInOrder) {
  std::string told;
  take_turns(
      3,
      [&](const std::vector<Tensor>& all) {
        told += "join ";
        return at::cat(all);
      },
      [&](size_t i) { told += "enter" + std::to_string(i) + " "; },
      [&](size_t i, const Meet& meet) {
        const Tensor all = meet(numbers(static_cast<double>(i)));
        EXPECT_TRUE(at::equal(all, at::arange(3, at::kDouble)));
        told += std::to_string(i) + " ";
        EXPECT_EQ(meet(numbers(1)).sum().item<double>(), 3);
      });
  EXPECT_EQ(told,
            "enter0 enter1 enter2 join enter0 0 enter1 1 enter2 2 join enter0 enter1 enter2 ");
}

TEST(TakeTurns, OnePieceRunsAsItIs) {
  double seen = 0;
  take_turns(
      1, [](const std::vector<Tensor>& all) { return at::cat(all); }, [](size_t) {},
      [&](size_t, const Meet& meet) { seen = meet(numbers(7)).item<double>(); });
  EXPECT_EQ(seen, 7);
}

TEST(TakeTurns, WhatOneThrowsEndsAll) {
  int unwound = 0;
  struct Counts {
    int& count;
    ~Counts() { ++count; }
  };
  const auto run = [&] {
    take_turns(
        3, [](const std::vector<Tensor>& all) { return at::cat(all); }, [](size_t) {},
        [&](size_t i, const Meet& meet) {
          const Counts held{unwound};
          meet(numbers(0));
          if (i == 1) fail("[test] the second gives up");
          meet(numbers(0));
          ADD_FAILURE() << "a piece went on after the failure";
        });
  };
  EXPECT_THAT(testing::message_of(run), HasSubstr("the second gives up"));
  EXPECT_EQ(unwound, 3);
}

TEST(TakeTurns, WhatTheJoinThrowsEndsAll) {
  EXPECT_THAT(testing::message_of([] {
                take_turns(
                    2, [](const std::vector<Tensor>&) -> Tensor { fail("[test] no join"); },
                    [](size_t) {}, [](size_t, const Meet& meet) { meet(numbers(0)); });
              }),
              HasSubstr("no join"));
}

TEST(TakeTurns, PiecesThatMeetUnequallyOftenAreRefused) {
  EXPECT_THAT(testing::message_of([] {
                take_turns(
                    2, [](const std::vector<Tensor>& all) { return at::cat(all); }, [](size_t) {},
                    [](size_t i, const Meet& meet) {
                      if (i == 0) meet(numbers(0));
                    });
              }),
              HasSubstr("equally often"));
}

TEST(TakeTurns, APieceKeepsItsGradientMode) {
  take_turns(
      2, [](const std::vector<Tensor>& all) { return at::cat(all); }, [](size_t) {},
      [](size_t i, const Meet& meet) {
        if (i == 0) {
          const at::NoGradGuard no_grad;
          meet(numbers(0));
          EXPECT_FALSE(at::GradMode::is_enabled());
        } else {
          meet(numbers(0));
          EXPECT_TRUE(at::GradMode::is_enabled());
        }
      });
  EXPECT_TRUE(at::GradMode::is_enabled());
}

}  // namespace
}  // namespace vggflow
