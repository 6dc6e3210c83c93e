#include "vggflow/data/votes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vggflow/io/files.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

Vote vote(int64_t pair, VoteWinner winner) {
  return {.pair = pair, .prompt = "a cat", .a = "a/1.png", .b = "b/1.png", .winner = winner};
}

TEST(Votes, ComeBackWithTheLastWordOnEachPair) {
  const testing::TemporaryFolder folder;
  EXPECT_THAT(read_votes(folder.path()), IsEmpty());
  {
    JsonLines lines(folder / "votes.jsonl");
    for (const Vote& v :
         {vote(3, VoteWinner::kA), vote(1, VoteWinner::kTie), vote(3, VoteWinner::kB)})
      lines.write(json_of(v));
  }
  const auto votes = read_votes(folder.path());
  ASSERT_THAT(votes, SizeIs(2));
  EXPECT_EQ(votes[0].winner, VoteWinner::kTie);
  EXPECT_EQ(votes[1].winner, VoteWinner::kB);
  EXPECT_EQ(votes[1].a, "a/1.png");
}

TEST(Votes, OfAnotherKindAreRefused) {
  const testing::TemporaryFolder folder;
  const auto said = [&](const std::string& line) {
    write_text(folder / "votes.jsonl", line + "\n");
    return testing::message_of([&] { read_votes(folder.path()); });
  };
  EXPECT_THAT(said("{}"), HasSubstr("is no vote: expected its 'pair'"));
  Json line = json_of(vote(1, VoteWinner::kA));
  line["winner"] = "c";
  EXPECT_THAT(said(line.dump()), HasSubstr("expected the winner a, b or tie, got c"));
  line = json_of(vote(1, VoteWinner::kA));
  for (const char* path : {"/etc/passwd", "../x.png", "a/../../x.png", ""}) {
    line["a"] = path;
    EXPECT_THAT(said(line.dump()), HasSubstr("which is not in its folder")) << path;
  }
}

// Wilson's interval as scipy.stats.binomtest(8, 10).proportion_ci(method="wilson") gives it.
TEST(Votes, HaveAWinRateWithWilsonsInterval) {
  std::vector<Vote> votes(8, vote(1, VoteWinner::kB));
  votes.resize(10, vote(1, VoteWinner::kA));
  const WinRate r = win_rate(votes);
  EXPECT_DOUBLE_EQ(r.rate, 0.8);
  EXPECT_NEAR(r.low, 0.4901625, 1e-6);
  EXPECT_NEAR(r.high, 0.9433178, 1e-6);
  votes = {vote(1, VoteWinner::kTie), vote(1, VoteWinner::kTie)};
  EXPECT_DOUBLE_EQ(win_rate(votes).rate, 0.5);
  EXPECT_EQ(win_rate({}).low, 0);
  EXPECT_EQ(win_rate({}).high, 1);
  votes = {vote(1, VoteWinner::kB)};
  EXPECT_DOUBLE_EQ(win_rate(votes).high, 1);
  EXPECT_NEAR(win_rate(votes).low, 0.2065, 1e-4);
}

}  // namespace
}  // namespace vggflow
