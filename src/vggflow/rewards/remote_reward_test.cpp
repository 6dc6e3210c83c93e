// Judges behind HTTP, against a server in this process.
#include "vggflow/rewards/remote_reward.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <limits>
#include <utility>

#include "vggflow/io/image.h"
#include "vggflow/io/jsonl.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/http_server.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::HttpAnswer;
using testing::HttpServer;
using testing::message_of;
using ::testing::Not;

const std::vector<std::string> kPrompts{"red heart", "ghöst \"quoted\"", "blue heart", "star",
                                        "sun"};

// Five images of one grey each, 0.0 to 0.8.
Tensor greys() {
  return at::arange(5, at::kFloat).view({5, 1, 1, 1}).expand({5, 3, 4, 6}).contiguous() / 5;
}

std::vector<uint8_t> decoded(const std::string& text) {
  static const std::string digits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::vector<uint8_t> out;
  uint32_t word = 0, bits = 0;
  for (const char c : text) {
    if (c == '=') break;
    word = (word << 6) | static_cast<uint32_t>(digits.find(c));
    if ((bits += 6) >= 8) out.push_back(static_cast<uint8_t>(word >> (bits -= 8)));
  }
  return out;
}

// The judge of this test: the first pixel's red in 0..255, from the PNG that it was sent.
double first_red(const std::string& png) {
  const testing::TemporaryFolder folder;
  const auto bytes = decoded(png);
  std::ofstream(folder / "x.png", std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  const Image image = read_png(folder / "x.png");
  EXPECT_EQ(image.width, 6);
  EXPECT_EQ(image.height, 4);
  return image.rgb.front();
}

HttpAnswer judge(const std::string& body) {
  const Json request = Json::parse(body);
  Json scores = Json::array();
  for (const auto& png : request["images"]) scores.push_back(first_red(png.get<std::string>()));
  return {200, Json{{"scores", scores}}.dump()};
}

std::vector<double> numbers(const Tensor& x) {
  const Tensor d = x.to(at::kDouble).contiguous();
  return {d.const_data_ptr<double>(), d.const_data_ptr<double>() + d.numel()};
}

TEST(RemoteReward, SendsImagesAndPromptsInBatches) {
  const HttpServer server(judge);
  const auto reward = make_reward(server.url() + "/score#batch=2", {});
  EXPECT_THAT(numbers(reward->score(greys(), kPrompts)), ElementsAre(0, 51, 102, 153, 204));
  std::vector<Json> prompts;
  for (const std::string& body : server.requests()) prompts.push_back(Json::parse(body)["prompts"]);
  EXPECT_THAT(prompts, ElementsAre(Json{kPrompts[0], kPrompts[1]}, Json{kPrompts[2], kPrompts[3]},
                                   Json::array({kPrompts[4]})));
  EXPECT_EQ(reward->unscored(), 0);
}

TEST(RemoteReward, SendsUserAndPasswordAndSaysThemNowhere) {
  const HttpServer server([](const std::string&) { return HttpAnswer{401, "no"}; });
  const std::string address = server.url().substr(7);
  const auto reward = make_reward("http://me:secret@" + address + "/score", {});
  EXPECT_THAT(reward->describe(), Not(HasSubstr("secret")));
  const std::string said = message_of([&] { reward->score(greys(), kPrompts); });
  EXPECT_THAT(said, HasSubstr("from http://" + address + "/score"));
  EXPECT_THAT(said, HasSubstr("pass the address with them again"));
  EXPECT_THAT(server.heads(), ElementsAre(HasSubstr("Authorization: Basic bWU6c2VjcmV0")));
}

TEST(RemoteReward, KeepsNoScoreApartFromZero) {
  const HttpServer server(
      [](const std::string&) { return HttpAnswer{200, R"({"scores": [0, null, -1.5]})"}; });
  const auto reward = make_reward("2*" + server.url() + "#batch=3", {});
  const Tensor scores = reward->score(greys().narrow(0, 0, 3), {"a", "b", "c"});
  EXPECT_EQ(scores[0].item<float>(), 0);
  EXPECT_TRUE(scores[1].isnan().item<bool>());
  EXPECT_EQ(scores[2].item<float>(), -3);
  EXPECT_EQ(reward->unscored(), 1);
}

TEST(RemoteReward, DoesNotSendWhatIsNoImage) {
  const HttpServer server(judge);
  Tensor x = greys();
  x[1][0][0][0] = std::numeric_limits<float>::quiet_NaN();
  const auto reward = make_reward(server.url(), {});
  const Tensor scores = reward->score(x, kPrompts);
  EXPECT_TRUE(scores[1].isnan().item<bool>());
  EXPECT_EQ(scores[4].item<float>(), 204);
  EXPECT_EQ(Json::parse(server.requests().at(0))["prompts"],
            (Json{kPrompts[0], kPrompts[2], kPrompts[3], kPrompts[4]}));
  EXPECT_EQ(reward->unscored(), 1);
}

TEST(RemoteReward, TriesAgainAsItsOptionsSay) {
  const HttpServer server([calls = 0](const std::string& body) mutable {
    return calls++ % 2 == 0 ? HttpAnswer{503, "busy"} : judge(body);
  });
  EXPECT_THAT(
      numbers(
          make_reward(server.url() + "#batch=3&retries=1&backoff=0", {})->score(greys(), kPrompts)),
      ElementsAre(0, 51, 102, 153, 204));
  EXPECT_EQ(server.requests().size(), 4);
  EXPECT_THAT(
      message_of([&] { make_reward(server.url() + "#retries=0", {})->score(greys(), kPrompts); }),
      HasSubstr("in 1 try; the last: status 503: busy"));
}

TEST(RemoteReward, RefusesOtherAnswers) {
  for (const auto& [body, message] :
       {std::pair{R"({"scores": [1, 2]})", "expected 5 scores from http://127.0.0.1"},
        {R"({"scores": [1, 2, 3, 4, 5, 6]})", "one per image, got 6"},
        {"", "expected a JSON object with a list 'scores'"},
        {"[1, 2, 3, 4, 5]", "got [1, 2, 3, 4, 5]"},
        {R"({"scores": 3})", "got {\"scores\": 3}"},
        {R"({"scores": [1, 2, "3", 4, 5]})",
         "expected a finite number or null as score 3 of http://127.0.0.1"},
        {R"({"scores": [1, 2, 3, true, 5]})", "as score 4 of"},
        {R"({"scores": [1, 2, 3, 4, 1e999]})", "expected a JSON object"}}) {
    const HttpServer server([body = body](const std::string&) { return HttpAnswer{200, body}; });
    EXPECT_THAT(message_of([&] { make_reward(server.url(), {})->score(greys(), kPrompts); }),
                HasSubstr(message))
        << body;
  }
}

TEST(RemoteReward, HasNoGradient) {
  const RemoteReward reward("http://127.0.0.1:1/");
  EXPECT_FALSE(reward.differentiable());
  EXPECT_THAT(message_of([&] { require_differentiable(reward, "judge"); }),
              HasSubstr("[reward] judge has no gradient: it can judge"));
  EXPECT_THAT(message_of([&] { reward_gradient(reward, greys(), kPrompts); }),
              HasSubstr("[reward] http://127.0.0.1:1/ has no gradient"));
  EXPECT_THAT(message_of([&] { reward.score(Dual{greys(), greys()}, kPrompts); }),
              HasSubstr("has no gradient"));
}

TEST(RemoteReward, RefusesOptionsItDoesNotHave) {
  EXPECT_THAT(message_of([] { make_reward("http://127.0.0.1/#bath=2", {}); }),
              HasSubstr("unknown setting 'bath'; did you mean 'batch'"));
  EXPECT_THAT(message_of([] { make_reward("https://127.0.0.1/#batch=0", {}); }),
              HasSubstr("expected 'batch' from 1 to 4096, got 0"));
  EXPECT_THAT(make_reward("http://127.0.0.1/#batch=7&timeout=3", {})->describe(),
              HasSubstr("judge at http://127.0.0.1/: 8-bit RGB PNG at the images' own size, 7 a "
                        "request, 3 s a try"));
}

}  // namespace
}  // namespace vggflow
