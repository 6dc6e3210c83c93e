#include "vggflow/eval/score.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <sstream>

#include "vggflow/core/config.h"
#include "vggflow/io/files.h"
#include "vggflow/io/image_file.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/ranks.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;
using ::testing::Not;
using testing::TemporaryFolder;

// 32 x 32 images of one colour: grey, red, blue-green.
Tensor colours() {
  const Tensor c =
      at::tensor({0.5, 0.5, 0.5, 0.9, 0.1, 0.1, 0.1, 0.5, 0.7}, at::kFloat).view({3, 3, 1, 1});
  return c.expand({3, 3, 32, 32}).contiguous();
}

RewardResources resources() { return {std::string(VGGFLOW_SOURCE_DIR) + "/models/emoji-clip"}; }

TEST(Score, SortsByTheFirstRewardAndKeepsTheOthers) {
  const ImageSet set = image_set_of("colours", colours(), {"ghost", "red heart", "wave"});
  const ScoredImages s = score_images(set, {"colorfulness", "emoji-clip"}, resources(), 2);
  EXPECT_THAT(s.order, ElementsAre(1, 2, 0));
  const auto direct =
      make_reward("emoji-clip", resources())->score(colours(), {"ghost", "red heart", "wave"});
  EXPECT_LT((s.scores[1] - direct.to(at::kDouble)).abs().max().item<double>(), 1e-4);
  const auto lines = score_lines(set, s);
  EXPECT_EQ(lines[0]["rank"], 1);
  EXPECT_EQ(lines[0]["image"], "1");
  EXPECT_EQ(lines[0]["prompt"], "red heart");
  EXPECT_NEAR(lines[0]["scores"]["emoji-clip"].get<double>(), direct[1].item<double>(), 1e-4);
  EXPECT_FALSE(lines[0].contains("parts"));
}

TEST(Score, OfSeveralRanksIsThatOfOneProcess) {
  const ImageSet set = image_set_of("colours", colours(), {"ghost", "red heart", "wave"});
  const std::vector<std::string> rewards{"0.5*colorfulness + 2*jpeg", "colorfulness"};
  const ScoredImages alone = score_images(set, rewards, resources(), 2);
  testing::on_threads(2, [&](const Group& group) {
    const ScoredImages shared = score_images(set, rewards, resources(), 2, group);
    EXPECT_TRUE(at::equal(shared.scores, alone.scores));
    EXPECT_TRUE(at::equal(shared.parts[0], alone.parts[0]));
    EXPECT_EQ(shared.order, alone.order);
  });
}

TEST(Score, GivesThePartsOfAWeightedSum) {
  const ImageSet set = image_set_of("colours", colours(), {"ghost", "red heart", "wave"});
  const std::string sum = "0.5*colorfulness + 2*emoji-clip";
  const ScoredImages s = score_images(set, {sum}, resources(), 8);
  const Json line = score_lines(set, s)[0];
  EXPECT_NEAR(line["scores"][sum].get<double>(),
              0.5 * line["parts"][sum]["colorfulness"].get<double>() +
                  2 * line["parts"][sum]["emoji-clip"].get<double>(),
              1e-9);
  const auto direct =
      make_reward(sum, resources())->score(colours(), {"ghost", "red heart", "wave"});
  EXPECT_LT((s.scores[0] - direct.to(at::kDouble)).abs().max().item<double>(), 1e-3);
}

TEST(Score, PutsImagesWithoutAScoreLastAndWritesNull) {
  Tensor x = colours();
  x[1].fill_(std::nan(""));
  const ImageSet set = image_set_of("holes", x, {"a", "b", "c"});
  const ScoredImages s = score_images(set, {"colorfulness"}, resources(), 8);
  EXPECT_THAT(s.order, ElementsAre(2, 0, 1));
  EXPECT_THAT(score_lines(set, s)[2].dump(), HasSubstr("\"colorfulness\":null"));
}

TEST(Score, TheSheetShowsTheBestAndTheWorstOfManyImagesAndEscapesPrompts) {
  const ImageSet set = image_set_of("colours", colours(), {"<i>", "red heart", "wave"});
  const ScoredImages s = score_images(set, {"colorfulness"}, resources(), 8);
  const std::string whole = score_sheet(set, s, 10), cut = score_sheet(set, s, 2);
  const auto count = [](const std::string& page) {
    int n = 0;
    for (size_t at = page.find("<img"); at != std::string::npos; at = page.find("<img", at + 1))
      ++n;
    return n;
  };
  EXPECT_EQ(count(whole), 3);
  EXPECT_THAT(whole, HasSubstr("&lt;i&gt;"));
  EXPECT_LT(whole.find("red heart"), whole.find("wave"));
  EXPECT_EQ(count(cut), 2);
  EXPECT_THAT(cut, HasSubstr("The 1 best"));
  EXPECT_THAT(cut, Not(HasSubstr(">wave<")));
}

TEST(Score, AJobOverAFolderWritesLinesAndASheet) {
  const TemporaryFolder folder;
  const Tensor x = colours();
  for (int64_t i = 0; i < 3; ++i) write_png(folder / fmt::format("{}.png", i), to_image(x[i]));
  ScoreOptions options;
  options.images = {folder.path().string()};
  options.rewards = {"emoji-clip"};
  options.files.reward_model = std::string(VGGFLOW_SOURCE_DIR) + "/models/emoji-clip";
  options.prompt = "red heart";
  options.out = (folder / "out").string();
  run_score(options);
  const auto lines = read_json_lines(folder / "out" / "scores.jsonl");
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_THAT(lines[0]["image"].get<std::string>(), HasSubstr("1.png"));
  EXPECT_EQ(lines[2]["prompt"], "red heart");
  EXPECT_THAT(read_text(folder / "out" / "scores.html"), HasSubstr("3 images by emoji-clip"));
  options.prompt = "";
  ::testing::internal::CaptureStderr();
  run_score(options);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              HasSubstr("3 images have no prompt: they are scored with the empty one"));
  options.images = {(folder / "1.png").string()};
  ::testing::internal::CaptureStdout();
  run_score(options);
  EXPECT_THAT(::testing::internal::GetCapturedStdout(),
              HasSubstr("(no error: one image) over 1 of 1 images"));
  EXPECT_THAT(read_text(folder / "out" / "scores.html"), Not(HasSubstr("± 0")));
  write_text(folder / "more.webp", "not read");
  options.images = {folder.path().string()};
  ::testing::internal::CaptureStderr();
  ::testing::internal::CaptureStdout();
  run_score(options);
  EXPECT_THAT(::testing::internal::GetCapturedStdout(),
              HasSubstr("(standard error over images) over 3 of 3 images"));
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              HasSubstr("not read (expected PNG or JPEG): more.webp"));
  EXPECT_THAT(read_text(folder / "out" / "scores.html"),
              HasSubstr("Not scored: 1 file is an image"));
  options.rewards = {};
  EXPECT_THAT(message_of([&] { run_score(options); }),
              HasSubstr("expected at least one reward; known are"));
}

TEST(Score, SettingsOfRewardsReachThem) {
  ScoreOptions options;
  const Fields fields = fields_of(options);
  for (const char* setting :
       {"nima_size=128", "reward_dtype=bf16", "reward_weights=[pickscore=x]", "threads=1"})
    apply_override(fields, setting);
  EXPECT_EQ(options.files.resources().nima_size, 128);
  EXPECT_EQ(options.files.resources().dtype, at::kBFloat16);
  EXPECT_EQ(options.files.resources().weights.at("pickscore"), "x");
  EXPECT_EQ(options.threads, 1);
  options.files.reward_weights = {"nosuch=/x"};
  EXPECT_THAT(message_of([&] { options.files.resources(); }),
              HasSubstr("nothing asks for weights named 'nosuch'; did you mean"));
}

}  // namespace
}  // namespace vggflow
