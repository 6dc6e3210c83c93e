#include "vggflow/page/run_view.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <ATen/ATen.h>

#include <filesystem>
#include <fstream>

#include "vggflow/core/config.h"
#include "vggflow/io/files.h"
#include "vggflow/io/folder_lock.h"
#include "vggflow/io/grid_file.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

std::string update_line(int64_t update, double reward) {
  return fmt::format(
      R"({{"kind":"update","update":{},"loss":{{"matching":0.5}},"reward":{{"mean":{},"sd":0.5}},"images_per_second":8,"rss_gib":1.5,"device_peak_gib":null}})"
      "\n",
      update, reward);
}
std::string eval_line(int64_t update, double reward) {
  return fmt::format(
      R"({{"kind":"eval","update":{},"prompt_kind":"held-out","metrics":{{"reward":{{"mean":{},"se":0.1}}}},"seconds":6}})"
      "\n",
      update, reward);
}

class RunViewTest : public ::testing::Test {
 protected:
  void append(const std::string& text) {
    std::ofstream(folder_ / "metrics.jsonl", std::ios::app) << text;
  }
  void configure(int64_t updates, const std::string& run) {
    AlignConfig config;
    config.updates = updates;
    config.run = run;
    config.batch = 4;
    write_text(folder_ / "config.yaml", to_yaml(fields_of(config)));
  }
  testing::TemporaryFolder folder_;
};

TEST_F(RunViewTest, TellsAllAtFirstAndThenWhatIsNew) {
  configure(20, folder_.path().string());
  append(eval_line(0, 1) + update_line(1, 2));
  RunView view(folder_.path());
  const auto first = view.poll();
  ASSERT_TRUE(first);
  EXPECT_TRUE((*first)["anew"]);
  EXPECT_THAT((*first)["evaluations"], SizeIs(1));
  EXPECT_FALSE(view.poll()) << "nothing is new";
  append(update_line(2, 3));
  const auto next = view.poll();
  ASSERT_TRUE(next);
  EXPECT_FALSE((*next)["anew"]);
  ASSERT_THAT((*next)["updates"], SizeIs(1));
  EXPECT_EQ((*next)["updates"][0]["reward"], 3.0);
  EXPECT_THAT((*next)["evaluations"], IsEmpty());
  EXPECT_EQ((*next)["status"]["update"], 2);
  EXPECT_EQ((*next)["status"]["seconds"], 0.5) << "4 images at 8 per second";
  EXPECT_EQ((*next)["status"]["memory"], 1.5);
  EXPECT_EQ(view.whole()["updates"].size(), 2u);
}

TEST_F(RunViewTest, BeginsAgainWhereAResumeTookLinesBack) {
  append(update_line(1, 1) + update_line(2, 2) + update_line(3, 3));
  RunView view(folder_.path());
  view.poll();
  write_text(folder_ / "metrics.jsonl", update_line(1, 1) + update_line(2, 5));
  const auto news = view.poll();
  ASSERT_TRUE(news);
  EXPECT_TRUE((*news)["anew"]);
  ASSERT_THAT((*news)["updates"], SizeIs(2));
  EXPECT_EQ((*news)["updates"][1]["reward"], 5.0);
  EXPECT_EQ((*news)["status"]["update"], 2);
}

TEST_F(RunViewTest, ThinsOutLongRunsWithoutLosingTheirMean) {
  for (int64_t u = 1; u <= 4101; ++u) append(update_line(u, static_cast<double>(u)));
  RunView view(folder_.path());
  view.poll();
  const Json points = view.whole()["updates"];
  EXPECT_LE(points.size(), 2001u);
  int64_t count = 0;
  double sum = 0;
  for (const Json& p : points) {
    count += p["n"].get<int64_t>();
    sum += p["n"].get<double>() * p["reward"].get<double>();
  }
  EXPECT_EQ(count, 4101);
  EXPECT_NEAR(sum / 4101, 2051, 1e-6);
  EXPECT_EQ(points.back()["update"], 4101);
}

TEST_F(RunViewTest, MarksTheBestEvaluationThatNothingSpeaksAgainst) {
  append(eval_line(0, 9) + eval_line(10, 2) + eval_line(20, 3) + eval_line(30, 8));
  append(R"({"kind":"warning","update":30,"name":"reward_hacking","text":"the judge fell"})"
         "\n");
  RunView view(folder_.path());
  view.poll();
  EXPECT_EQ(view.whole()["status"]["best"], 20) << "30 is warned of, and 0 is the base";
  EXPECT_EQ(view.whole()["warnings"][0]["text"], "the judge fell");
}

TEST_F(RunViewTest, KnowsWhatARunDoesNow) {
  RunView view(folder_.path());
  view.poll();
  EXPECT_EQ(view.whole()["status"]["state"], "waiting");
  configure(20, folder_.path().string());
  append(eval_line(0, 1) + update_line(1, 2));
  {
    const FolderLock held(folder_.path());
    view.poll();
    EXPECT_EQ(view.whole()["status"]["state"], "running");
    EXPECT_GT(view.whole()["status"]["left"], 19 * 0.5);
  }
  view.poll();
  EXPECT_EQ(view.whole()["status"]["state"], "stopped");
  EXPECT_TRUE(view.whole()["status"]["left"].is_null());
  write_text(folder_ / "summary.json", "{}");
  view.poll();
  EXPECT_EQ(view.whole()["status"]["state"], "finished");
}

TEST_F(RunViewTest, NamesTheSettingsThatAreNotTheDefaultAndHowToGoOn) {
  configure(20, folder_.path().string());
  RunView view(folder_.path());
  view.poll();
  const Json settings = view.whole()["settings"];
  ASSERT_THAT(settings, SizeIs(3));
  EXPECT_EQ(settings[1], (Json{{"key", "updates"}, {"value", "20"}, {"default", "60"}}));
  const std::string file = (folder_ / "config.yaml").string();
  EXPECT_EQ(view.whole()["resume"], "vggflow align --config " + file + " resume=true");
  configure(20, "another/place");
  view.poll();
  EXPECT_EQ(view.whole()["resume"],
            "vggflow align --config " + file + " resume=true run=" + folder_.path().string());
  write_text(folder_ / "config.yaml", "nonsense: 1\n");
  view.poll();
  EXPECT_THAT(view.whole()["problem"].get<std::string>(), HasSubstr("unknown"));
  EXPECT_THAT(view.whole()["settings"], IsEmpty());
}

TEST_F(RunViewTest, GivesGridsOfTheRunAndNothingElse) {
  make_writable_folder(folder_ / "grids");
  write_grid(folder_ / "grids/eval_000000.png", grid_of(at::zeros({3, 3, 4, 4})),
             {"a", "b", "<c>"});
  write_text(folder_ / "grids/eval_000005.png", "no image");
  write_text(folder_ / "secret.png", "secret");
  fs::create_symlink(folder_ / "secret.png", folder_ / "grids/eval_000007.png");
  ASSERT_EQ(::mkfifo((folder_ / "grids/eval_000008.png").c_str(), 0600), 0);
  RunView view(folder_.path());
  view.poll();
  EXPECT_EQ(view.whole()["grids"], Json({0, 5}));
  EXPECT_EQ(view.whole()["columns"], 3);
  EXPECT_EQ(view.whole()["captions"], Json({"a", "b", "<c>"}));
  EXPECT_EQ(view.grid(0), read_text(folder_ / "grids/eval_000000.png"));
  for (const int64_t other : {5, 6, 7, 8, -1}) EXPECT_EQ(view.grid(other), "") << other;
}

TEST_F(RunViewTest, BearsLinesOfEveryKind) {
  append(
      "{\"kind\":\"update\",\"update\":\"x\",\"reward\":[1],\"loss\":7}\n[1]\n\"kind\"\nno json\n");
  append(
      "{\"kind\":\"eval\",\"update\":{},\"metrics\":5,\"seconds\":\"x\"}\n{\"kind\":\"warning\"}"
      "\n");
  append(std::string(100000, '[') + "\n{\"kind\":\"eval\",\"metrics\":{\"reward\":null}}\n");
  append("{\"kind\":\"update\",\"update\":1e300,\"loss\":{\"a/b~\":1}}\n");
  std::ofstream(folder_ / "log.txt") << "\x1b[2Jred \xff\n";
  RunView view(folder_.path());
  const auto news = view.poll();
  ASSERT_TRUE(news);
  EXPECT_EQ((*news)["updates"].size(), 2u);
  EXPECT_THAT((*news)["lines"][0].get<std::string>(), HasSubstr("\\x1b[2Jred"));
}

}  // namespace
}  // namespace vggflow
