#include "vggflow/train/base_cache.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "vggflow/io/files.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"
#include "vggflow/train/align_fixture_test.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::lines_of;
using testing::tiny_config;

TEST(BaseCache, GivesBackWhatWasKeptUnderTheSameWordsAlone) {
  const testing::TemporaryFolder scratch;
  const fs::path folder = scratch.path() / "a/b";
  const BaseCache cache(folder, "these"), others(folder, "those");
  EXPECT_FALSE(cache.read());
  cache.write({{"reward", at::arange(3, at::kFloat)}, {"right", at::arange(2).to(at::kBool)}});
  const auto kept = cache.read();
  ASSERT_TRUE(kept);
  EXPECT_TRUE(at::equal(kept->at("reward"), at::arange(3, at::kFloat)));
  EXPECT_TRUE(at::equal(kept->at("right"), at::arange(2).to(at::kBool)));
  EXPECT_FALSE(others.read());
  fs::copy(cache.file(), others.file());
  EXPECT_FALSE(others.read()) << "the words decide, not their hash";
  fs::resize_file(cache.file(), fs::file_size(cache.file()) - 1);
  EXPECT_FALSE(cache.read()) << "a damaged file";
}

TEST(BaseCache, ThatCannotBeWrittenStopsNothing) {
  const testing::TemporaryFolder scratch;
  write_text(scratch.path() / "file", "");
  BaseCache(scratch.path() / "file", "these").write({{"reward", at::zeros(1)}});
  EXPECT_EQ(fs::file_size(scratch.path() / "file"), 0u);
}

// Two runs that differ in their method: the second one's evaluations are those of a run that drew
// the base itself.
TEST(BaseCache, ServesTheRunsOfOneEvaluation) {
  const auto run = [](const std::string& name, const std::string& method, bool keeps,
                      double guidance = 1) {
    AlignConfig c = tiny_config("cache_" + name);
    c.method = method;
    c.problem.guidance = guidance;
    c.eval.batch = 3;
    if (keeps) c.base_cache = (fs::path(c.run).parent_path() / "cache_base").string();
    EXPECT_EQ(align(c), RunEnd::kFinished);
    return fs::path(c.run);
  };
  const auto log = [](const fs::path& run) { return read_text(run / "log.txt"); };
  const char* const kServed = "the base's figures are those of ";
  const fs::path first = run("first", "vgg-flow", true);
  EXPECT_THAT(log(first), ::testing::Not(HasSubstr(kServed)));
  const fs::path second = run("second", "refl", true), alone = run("alone", "refl", false);
  EXPECT_THAT(log(second), HasSubstr(kServed));
  EXPECT_EQ(lines_of(second, "eval"), lines_of(alone, "eval"));
  const fs::path guided = run("guided", "refl", true, 3);
  EXPECT_THAT(log(guided), ::testing::Not(HasSubstr(kServed))) << "other images of the base";
}

}  // namespace
}  // namespace vggflow
