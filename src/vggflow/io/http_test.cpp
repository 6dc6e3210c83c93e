#include "vggflow/io/http.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "vggflow/core/log.h"
#include "vggflow/testing/http_server.h"
#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::HttpAnswer;
using testing::HttpServer;
using testing::message_of;

// A server that gives these answers in turn.
auto in_turn(std::vector<HttpAnswer> answers) {
  return [answers, next = size_t{0}](const std::string&) mutable {
    return answers.at(std::min(next++, answers.size() - 1));
  };
}

std::string post(const HttpServer& server, const std::string& body, const RetryOptions& options) {
  HttpClient client;
  return post_json(client, server.url() + "/score", body, options);
}

TEST(Http, PostsABodyAndReadsTheReply) {
  const HttpServer server(in_turn({{200, "[1]"}}));
  HttpClient client;
  const std::string large(3 << 20, 'x');  // curl would ask for 100-continue
  Stopwatch watch;
  EXPECT_EQ(post_json(client, server.url(), large, {}), "[1]");
  EXPECT_EQ(post_json(client, server.url(), "small", {}), "[1]");
  EXPECT_LT(watch.seconds(), 0.9);
  EXPECT_THAT(server.requests(), ElementsAre(large, "small"));
}

TEST(Http, TriesAgainWhereTheServerIsBusy) {
  const HttpServer server(in_turn({{503, "loading"}, {429, ""}, {200, "ok"}}));
  Stopwatch watch;
  EXPECT_EQ(post(server, "a", {.timeout = 5, .retries = 2, .backoff = 0.05}), "ok");
  EXPECT_GE(watch.seconds(), 0.15);  // 0.05 + 0.1
  EXPECT_THAT(server.requests(), ElementsAre("a", "a", "a"));
}

TEST(Http, WaitsAsLongAsTheServerAsks) {
  const HttpServer server(in_turn({{503, "", "Retry-After: 1\r\n"}, {200, "ok"}}));
  Stopwatch watch;
  EXPECT_EQ(post(server, "a", {.timeout = 5, .retries = 1, .backoff = 0}), "ok");
  EXPECT_GE(watch.seconds(), 1);
}

TEST(Http, TriesAgainAfterATimeout) {
  const HttpServer server(in_turn({{0, ""}, {200, "ok"}}));
  EXPECT_EQ(post(server, "a", {.timeout = 0.3, .retries = 1, .backoff = 0}), "ok");
  EXPECT_EQ(server.requests().size(), 2);
}

TEST(Http, GivesUpWithTheLastOutcome) {
  const HttpServer busy(in_turn({{503, "still loading"}})), silent(in_turn({{0, ""}}));
  EXPECT_THAT(
      message_of([&] { post(busy, "a", {.timeout = 5, .retries = 2, .backoff = 0}); }),
      HasSubstr(
          "no reply of status 200 from " + busy.url() +
          "/score in 3 tries; the last: status 503: still loading. Check that the server runs"));
  EXPECT_EQ(busy.requests().size(), 3);
  EXPECT_THAT(message_of([&] { post(silent, "a", {.timeout = 0.1, .retries = 0, .backoff = 0}); }),
              HasSubstr("in 1 try; the last: Operation timed out"));
  HttpClient client;
  std::string gone;
  {
    gone = HttpServer(in_turn({{200, ""}})).url();
  }
  EXPECT_THAT(
      message_of([&] { post_json(client, gone, "a", {.timeout = 5, .retries = 1, .backoff = 0}); }),
      HasSubstr("in 2 tries; the last: Failed to connect"));
}

TEST(Http, DoesNotTryAgainWhatCannotWork) {
  const HttpServer server(in_turn({{404, "no such judge"}}));
  EXPECT_THAT(message_of([&] { post(server, "a", {}); }),
              HasSubstr("expected status 200 from " + server.url() +
                        "/score, got status 404: no such judge"));
  EXPECT_EQ(server.requests().size(), 1);
  const HttpServer moved(in_turn({{302, "", "Location: " + server.url() + "/elsewhere\r\n"}}));
  EXPECT_THAT(message_of([&] { post(moved, "a", {}); }), HasSubstr("got status 302"));
  EXPECT_EQ(server.requests().size(), 1);
  const HttpServer endless(in_turn({{200, std::string((16 << 20) + 1, 'x')}}));
  EXPECT_THAT(message_of([&] { post(endless, "a", {}); }),
              HasSubstr("the reply is longer than 16777216 bytes"));
  HttpClient client;
  EXPECT_THAT(message_of([&] { post_json(client, "ftp://127.0.0.1/x", "a", {}); }),
              HasSubstr("got Protocol \"ftp\" not supported"));
}

}  // namespace
}  // namespace vggflow
