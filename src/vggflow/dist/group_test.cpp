#include "vggflow/dist/group.h"

#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gmock/gmock.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "vggflow/core/error.h"
#include "vggflow/core/log.h"
#include "vggflow/dist/ranks_fixture_test.h"
#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(Group, OfOneIsTheIdentity) {
  const Group one;
  const Tensor x = at::arange(6, at::kFloat).view({3, 2});
  EXPECT_EQ(one.size(), 1);
  EXPECT_TRUE(one.leads());
  EXPECT_TRUE(one.gather_rows(x).is_same(x));
  EXPECT_TRUE(one.broadcast(x).is_same(x));
  EXPECT_EQ(one.broadcast("word"), "word");
  EXPECT_TRUE(at::equal(one.ordered_sum(x), x[0] + x[1] + x[2]));
  EXPECT_TRUE(one.any(true));
  EXPECT_FALSE(one.any(false));
  one.agree("anything", "text");
}

TEST(Group, GathersRowsInTheOrderOfRanks) {
  on_ranks(3, [](const Group& group) {
    // Of rank r there are r rows; of rank 1 more than a packet holds.
    const int64_t rank = group.rank(), width = 3000;
    const Tensor own = at::full({rank, width}, static_cast<double>(rank), at::kDouble);
    const Tensor all = group.gather_rows(own);
    ASSERT_EQ(all.size(0), 3);
    EXPECT_EQ(all[0][0].item<double>(), 1);
    EXPECT_EQ(all[2][width - 1].item<double>(), 2);
    const Tensor small = group.gather_rows(at::full({1}, rank, at::kLong));
    EXPECT_TRUE(at::equal(small, at::arange(3)));
  });
}

TEST(Group, AddsRowsToTheSameBitsHoweverTheyAreSpread) {
  const Tensor rows = at::sin(at::arange(4 * 5000, at::kFloat)).view({4, 5000}) *
                      at::tensor({1.0F, 1e-3F, 1e3F, 7.0F}).unsqueeze(1);
  const Tensor alone = Group().ordered_sum(rows);
  for (const int size : {2, 4}) {
    on_ranks(size, [&](const Group& group) {
      const int64_t each = 4 / size;
      EXPECT_TRUE(at::equal(group.ordered_sum(rows.narrow(0, each * group.rank(), each)), alone));
    });
  }
}

TEST(Group, PutsDealtPiecesInOrder) {
  const std::vector<int64_t> rows{2, 2, 1};  // rank 3 has no piece
  on_ranks(4, [&](const Group& group) {
    std::vector<Tensor> own;
    if (group.rank() < 3)
      own.push_back(
          at::full({rows[static_cast<size_t>(group.rank())], 2}, group.rank(), at::kDouble));
    const Tensor all = gather_dealt(group, own, rows);
    EXPECT_TRUE(at::equal(all.select(1, 0), at::tensor({0.0, 0.0, 1.0, 1.0, 2.0}, at::kDouble)));
  });
}

TEST(Group, GathersWhileItDoesOtherThings) {
  on_ranks(2, [](const Group& group) {
    const Tensor own = at::full({100}, group.rank() + 1, at::kByte),
                 first = at::empty({200}, at::kByte), second = at::empty({200}, at::kByte);
    const auto one = group.begin_gather(own, first), two = group.begin_gather(10 * own, second);
    EXPECT_TRUE(group.any(group.rank() == 1));
    two();
    one();
    EXPECT_TRUE(at::equal(first, at::tensor({1, 2}, at::kByte).repeat_interleave(100)));
    EXPECT_TRUE(at::equal(second, 10 * first));
  });
}

std::vector<int64_t> dealt(const Group& group, int64_t pieces) {
  std::vector<int64_t> made;
  group.deal(pieces, [&](int64_t piece, bool counts) { made.push_back(counts ? piece : -piece); });
  return made;
}

TEST(Group, DealsPiecesInTurn) {
  EXPECT_THAT(dealt({}, 3), ElementsAre(0, 1, 2));
  const Group second(place(1, 3, 0), nullptr), third(place(2, 3, 0), nullptr);
  EXPECT_THAT(dealt(second, 7), ElementsAre(1, 4));
  EXPECT_THAT(dealt(third, 6), ElementsAre(2, 5));
}

TEST(Group, InStepMakesAsManyPiecesOnEveryRank) {
  const Group second(place(1, 3, 0), nullptr);
  second.keep_step();
  EXPECT_THAT(dealt(second, 7), ElementsAre(1, 4, -6));
  EXPECT_THAT(dealt(second, 6), ElementsAre(1, 4));
  EXPECT_THAT(dealt(second, 8), ElementsAre(1, 4, 7));
}

struct Settings {
  int64_t seed = 0;
  template <class V>
  void fields(V& v) {
    v("seed", seed, "seed", range(0, 9));
  }
};

TEST(Group, RefusesOtherSettings) {
  on_ranks(2, [](const Group& group) {
    Settings settings;
    agree_on_settings(group, fields_of(settings));
    settings.seed = group.rank();
    EXPECT_THAT(testing::message_of([&] { agree_on_settings(group, fields_of(settings)); }),
                HasSubstr("the settings to be the same on all ranks; rank 1 differs"));
    settings.seed = 0;
    at::set_num_threads(1 + group.rank());
    EXPECT_THAT(testing::message_of([&] { agree_on_settings(group, fields_of(settings)); }),
                HasSubstr("the number of threads to be the same on all ranks; rank 1 differs"));
  });
}

TEST(Group, IsNotHeldUpByAStrangerAtTheMeetingPoint) {
  const BoundSocket stranger;
  ::listen(stranger.descriptor, 1);
  const Stopwatch watch;
  const std::string said = testing::message_of(
      [&] { Group::open(place(1, 2, stranger.port), std::chrono::milliseconds(1000)); });
  EXPECT_THAT(said, HasSubstr("rank 1 of 2 (torchrun) cannot reach the meeting point"));
  EXPECT_THAT(said, Not(HasSubstr("\n")));
  EXPECT_LT(watch.seconds(), 10);
}

TEST(Group, HearsRankZero) {
  on_ranks(2, [](const Group& group) {
    const std::string text(10000, 'x');
    EXPECT_EQ(group.broadcast(group.leads() ? text : "other"), text);
    const Tensor x = group.broadcast(group.leads() ? at::arange(5) : at::zeros({2}, at::kLong));
    EXPECT_TRUE(at::equal(x, at::arange(5)));
    EXPECT_TRUE(group.any(group.rank() == 1));
    EXPECT_FALSE(group.any(false));
    group.barrier();
    EXPECT_GT(group.seconds(), 0);
  });
}

TEST(Group, NamesTheRankThatDiffers) {
  on_ranks(3, [](const Group& group) {
    group.agree("the settings", "same");
    EXPECT_THAT(testing::message_of(
                    [&] { group.agree("the settings", group.rank() == 2 ? "other" : "same"); }),
                HasSubstr("the settings to be the same on all ranks; rank 2 differs"));
  });
}

TEST(Group, ThrowsRankZerosErrorOnAll) {
  on_ranks(2, [](const Group& group) {
    int calls = 0;
    group.lead([&] { ++calls; });
    EXPECT_EQ(calls, group.leads() ? 1 : 0);
    EXPECT_THAT(testing::message_of([&] { group.lead([] { fail("[run] holds a run"); }); }),
                HasSubstr("[run] holds a run"));
  });
}

TEST(Group, NamesTheRankThatDied) {
  on_ranks(3, [](const Group& group) {
    if (group.rank() == 1) {
      group.barrier();
      ::_exit(0);
    }
    const Stopwatch watch;
    // The loss may reach a rank while it is still in the first.
    EXPECT_THAT(testing::message_of([&] {
                  group.barrier();
                  group.barrier();
                }),
                HasSubstr("rank 1 on "));
    EXPECT_LT(watch.seconds(), 10);
  });
}

// The meeting point, which rank 0 keeps, stays until a rank that noticed the loss later has looked.
TEST(Group, NamesTheRankThatDiedToOneThatNoticesLater) {
  on_ranks(3, [](const Group& group) {
    if (group.rank() == 1) {
      group.barrier();
      ::_exit(0);
    }
    const std::string said = testing::message_of([&] {
      group.barrier();
      if (group.rank() == 2) std::this_thread::sleep_for(std::chrono::milliseconds(1000));
      group.barrier();
    });
    EXPECT_THAT(said, HasSubstr("rank 1 on "));
    EXPECT_THAT(said, Not(HasSubstr("meeting point")));
  });
}

TEST(Group, TellsWhyARankEnded) {
  on_ranks(3, [](const Group& group) {
    group.barrier();
    if (group.rank() == 0) {
      group.leave_word("[disk] full");
      return;
    }
    EXPECT_THAT(testing::message_of([&] { group.barrier(); }), HasSubstr("ended: [disk] full"));
  });
}

TEST(Group, NamesTheRankThatDoesNotAnswer) {
  const int port = free_port();
  const pid_t silent = ::fork();
  if (silent == 0) {
    const Group group = Group::open(place(1, 2, port), kLong);
    ::sleep(20);
    ::_exit(0);
  }
  const Group group = Group::open(place(0, 2, port), std::chrono::milliseconds(3000));
  EXPECT_THAT(testing::message_of([&] { group.barrier(); }), HasSubstr("rank 1 on "));
  ::kill(silent, SIGKILL);
  ::waitpid(silent, nullptr, 0);
}

TEST(Group, NamesTheRankThatDoesNotCome) {
  EXPECT_THAT(testing::message_of(
                  [] { Group::open(place(0, 2, free_port()), std::chrono::milliseconds(1000)); }),
              HasSubstr("got none of rank 1"));
}

}  // namespace
}  // namespace vggflow
