#include "vggflow/page/vote_page.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "vggflow/core/json.h"
#include "vggflow/io/files.h"
#include "vggflow/io/image.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

// Pairs whose images of a are black and of b white.
class VotePageTest : public ::testing::Test {
 protected:
  VotePageTest() {
    for (const char* side : {"a", "b"}) {
      make_writable_folder(folder_ / side);
      for (int i = 0; i < 12; ++i)
        write_png(folder_ / fmt::format("{}/{:05}.png", side, i),
                  {1, 1, std::vector<uint8_t>(3, *side == 'a' ? 0 : 255)},
                  {{"prompt", fmt::format("<prompt {}>", i)}});
    }
  }
  static Json json(const WebReply& reply) { return parse_json(reply.body, "the reply"); }
  static WebReply vote(VotePage& page, const std::string& body) {
    return page.post({.path = "/vote", .body = body});
  }
  bool shows_a(VotePage& page, int64_t pair, const std::string& side) const {
    return page.get({.path = "/image", .query = {{"pair", fmt::to_string(pair)}, {"side", side}}})
               .body == read_text(folder_ / fmt::format("a/{:05}.png", pair));
  }
  testing::TemporaryFolder folder_;
};

TEST_F(VotePageTest, CountsForWhomTheImageWasThatWasChosen) {
  VotePage page(folder_.path(), {"the base", "mine"});
  for (Json state = json(page.get({.path = "/next"})); state["pair"] >= 0;) {
    const auto pair = state["pair"].get<int64_t>();
    EXPECT_EQ(state["prompt"], fmt::format("<prompt {}>", pair));
    const bool left_is_a = shows_a(page, pair, "left");
    EXPECT_NE(left_is_a, shows_a(page, pair, "right"));
    const char* choice = pair < 9    ? (left_is_a ? "right" : "left")
                         : pair < 11 ? "tie"
                                     : (left_is_a ? "left" : "right");
    state = json(vote(page, fmt::format(R"({{"pair":{},"choice":"{}"}})", pair, choice)));
  }
  const WinRate r = page.result();
  EXPECT_EQ(r.votes, 12);
  EXPECT_EQ(r.wins, 9);
  EXPECT_EQ(r.ties, 2);
  const auto votes = read_votes(folder_.path());
  ASSERT_THAT(votes, SizeIs(12));
  EXPECT_EQ(votes[0].winner, VoteWinner::kB);
  EXPECT_EQ(votes[11].winner, VoteWinner::kA);
}

TEST_F(VotePageTest, GoesBackToTheLastPairAndTakesAnotherVoteOnIt) {
  VotePage page(folder_.path(), {"the base", "mine"});
  const Json first = json(page.get({.path = "/next"}));
  const auto pair = first["pair"].get<int64_t>();
  vote(page, fmt::format(R"({{"pair":{},"choice":"left"}})", pair));
  EXPECT_EQ(json(page.post({.path = "/back"}))["pair"], pair);
  vote(page, fmt::format(R"({{"pair":{},"choice":"tie"}})", pair));
  EXPECT_EQ(page.result().votes, 1);
  EXPECT_EQ(page.result().ties, 1);
  EXPECT_EQ(read_votes(folder_.path()).front().winner, VoteWinner::kTie);
}

TEST_F(VotePageTest, GoesOnWithTheVotesOfBeforeAndLeavesAHalfLine) {
  {
    VotePage page(folder_.path(), {"the base", "mine"});
    vote(page, R"({"pair":4,"choice":"left"})");
  }
  std::ofstream(folder_ / "votes.jsonl", std::ios::app) << "{\"pair\":5,\"pro";
  VotePage page(folder_.path(), {"the base", "mine"});
  EXPECT_EQ(page.result().votes, 1);
  vote(page, R"({"pair":6,"choice":"tie"})");
  EXPECT_THAT(read_votes(folder_.path()), SizeIs(2));
}

TEST_F(VotePageTest, SaysNothingOfWhichIsWhichAndRefusesWhatIsNoVote) {
  VotePage page(folder_.path(), {"the base", "mine"});
  EXPECT_THAT(page.get({.path = "/next"}).body, Not(HasSubstr("a_left")));
  for (const char* body : {"", "[]", "{}", R"({"pair":"1","choice":"left"})", R"({"pair":1})",
                           R"({"pair":1,"choice":"a"})", R"({"pair":12,"choice":"left"})",
                           R"({"pair":-1,"choice":"left"})", R"({"pair":1,"choice":["left"]})"})
    EXPECT_EQ(vote(page, body).status, 400) << body;
  EXPECT_EQ(page.result().votes, 0);
  for (const char* path : {"/a/00000.png", "/votes.jsonl", "/../x"})
    EXPECT_EQ(page.get({.path = path}).status, 404) << path;
  EXPECT_EQ(page.get({.path = "/image", .query = {{"pair", "../a"}, {"side", "left"}}}).status,
            404);
  EXPECT_EQ(page.post({.path = "/stop"}).status, 404);
  const testing::TemporaryFolder empty;
  EXPECT_THAT(testing::message_of([&] { VotePage(empty.path(), {"", ""}); }),
              HasSubstr("holds no pairs of images"));
}

}  // namespace
}  // namespace vggflow
