#include "vggflow/core/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "vggflow/core/log.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;

ProgressView half_way() {
  ProgressView view;
  view.title = "align";
  view.done = 30;
  view.total = 60;
  view.per_second = 1 / 3.2;
  view.seconds_left = 151;
  view.memory_gib = 1.24;
  view.note = "reward 0.312";
  return view;
}

std::string text_of(const std::filesystem::path& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(Progress, FitsTheTerminalWhateverItsWidth) {
  for (size_t columns = 1; columns < 200; ++columns)
    EXPECT_LE(half_way().bar(columns).size(), columns) << columns;
}

TEST(Progress, ShowsAllWhereThereIsRoomAndTheMostTellingWhereThereIsNot) {
  EXPECT_EQ(half_way().bar(120),
            "align 30/60 [############............] ETA 2 min 31 s | 3.2 s each | reward 0.312 | "
            "1.2 GiB");
  EXPECT_EQ(half_way().bar(79),
            "align 30/60 [######......] ETA 2 min 31 s | 3.2 s each | reward 0.312 | 1.2 GiB");
  EXPECT_EQ(half_way().bar(42), "align 30/60 [######.......] ETA 2 min 31 s");
  EXPECT_EQ(half_way().bar(20), "align 30/60");
}

TEST(Progress, BeginsWithoutARate) {
  ProgressView view;
  view.title = "evaluation";
  view.total = 320;
  EXPECT_THAT(view.bar(79), HasSubstr("evaluation 0/320 [........................] ETA ?"));
  EXPECT_EQ(view.line(), "evaluation 0/320 | ETA ?");
}

// Where there is no terminal, as in the tests, a line says how far it is, once all was quiet.
TEST(Progress, WritesPlainLinesWhereThereIsNoTerminal) {
  if (::isatty(STDERR_FILENO)) GTEST_SKIP() << "standard error is a terminal";
  const testing::TemporaryFolder folder;
  open_log(folder.path() / "log.txt");
  {
    Progress talkative("score", 64, 0, /*quiet_seconds=*/0);
    talkative.advance(16, "", 7.0);
    talkative.add(16);
    Progress quiet("sample", 64);
    quiet.advance(32);
  }
  const std::string log = text_of(folder.path() / "log.txt");
  EXPECT_THAT(log, HasSubstr("score 16/64 | ETA 7.0 s | "));
  EXPECT_THAT(log, HasSubstr("score 32/64 | ETA "));
  EXPECT_EQ(log.find("sample"), std::string::npos) << log;
  EXPECT_EQ(log.find('\x1b'), std::string::npos);
  EXPECT_EQ(log.find('\r'), std::string::npos);
}

}  // namespace
}  // namespace vggflow
