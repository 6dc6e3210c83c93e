#include "vggflow/page/run_buttons.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vggflow {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

class RunButtonsTest : public ::testing::Test {
 protected:
  WebReply post(const std::string& path, const std::string& body = "{}") {
    return buttons_.post({.path = path, .query = {}, .body = body});
  }
  WebReply image(const std::string& number, const std::string& which) const {
    return buttons_.image(
        {.path = "/sample", .query = {{"number", number}, {"image", which}}, .body = ""});
  }
  Json told_;
  RunButtons buttons_{[this](const Json& state) { told_ = state; }};
};

TEST_F(RunButtonsTest, AskOnceForWhatWasPressed) {
  EXPECT_FALSE(buttons_.take().stop);
  EXPECT_EQ(post("/stop").status, 202);
  EXPECT_EQ(post("/save").status, 202);
  EXPECT_EQ(post("/erase").status, 404);
  EXPECT_EQ(told_["stops"], true);
  RunWishes wishes = buttons_.take();
  EXPECT_TRUE(wishes.stop);
  EXPECT_TRUE(wishes.save);
  buttons_.saved(7);
  EXPECT_EQ(told_["saved"], 7);
  EXPECT_EQ(told_["saves"], false);
  wishes = buttons_.take();
  EXPECT_FALSE(wishes.stop);
  EXPECT_FALSE(wishes.save);
}

TEST_F(RunButtonsTest, GiveTheImagesOfAPrompt) {
  EXPECT_EQ(post("/sample", R"({"prompt":"red heart","seed":3})").status, 202);
  const RunWishes wishes = buttons_.take();
  ASSERT_THAT(wishes.samples, SizeIs(1));
  EXPECT_EQ(wishes.samples[0].prompt, "red heart");
  EXPECT_EQ(wishes.samples[0].seed, 3);
  EXPECT_EQ(image("1", "base").status, 404) << "it is not drawn yet";
  buttons_.drawn(wishes.samples[0], 12, {1, 1, {0, 0, 0}}, {1, 1, {9, 9, 9}});
  EXPECT_EQ(told_["samples"][0]["update"], 12);
  EXPECT_THAT(image("1", "base").body, StartsWith("\x89PNG"));
  EXPECT_NE(image("1", "base").body, image("1", "aligned").body);
  EXPECT_EQ(image("1", "other").status, 404);
  EXPECT_EQ(image("2", "base").status, 404);
  EXPECT_THAT(buttons_.take().samples, IsEmpty());
}

TEST_F(RunButtonsTest, SayWhyThereIsNoImage) {
  post("/sample", R"({"prompt":"<b>"})");
  buttons_.failed(buttons_.take().samples.at(0), "no such word");
  EXPECT_EQ(told_["samples"][0]["state"], "failed");
  EXPECT_EQ(told_["samples"][0]["why"], "no such word");
}

TEST_F(RunButtonsTest, RefuseWhatIsNoWish) {
  for (const char* body :
       {"", "[]", "{}", R"({"prompt":1})", R"({"prompt":"a","seed":-1})",
        R"({"prompt":"a","seed":0.5})", R"({"prompt":"a","seed":1e300})", R"({"prompt":"a\nb"})"})
    EXPECT_EQ(post("/sample", body).status, 400) << body;
  EXPECT_EQ(post("/sample", "{\"prompt\":\"" + std::string(2000, 'x') + "\"}").status, 400);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(post("/sample", R"({"prompt":"a"})").status, 202);
  EXPECT_EQ(post("/sample", R"({"prompt":"a"})").status, 429);
  for (const SampleWish& wish : buttons_.take().samples) buttons_.failed(wish, "x");
  EXPECT_EQ(post("/sample", R"({"prompt":"a"})").status, 202);
}

}  // namespace
}  // namespace vggflow
