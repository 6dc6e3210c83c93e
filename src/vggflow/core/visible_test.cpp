#include "vggflow/core/visible.h"

#include <gtest/gtest.h>

#include <string>

#include "vggflow/core/log.h"
#include "vggflow/core/result.h"

namespace vggflow {
namespace {

TEST(Visible, ShowsWhatATerminalWouldObey) {
  EXPECT_EQ(visible("a\x1b]0;title\a\rb\x7f"), "a\\x1b]0;title\\x07\\x0db\\x7f");
  EXPECT_EQ(visible("\xc2\x9b"
                    "31m"),
            "\\u009b31m");
  EXPECT_EQ(visible(std::string("a\0b", 3)), "a\\x00b");
}

TEST(Visible, LeavesAllElseAsItIs) {
  for (const char* text : {"", "two\n\tlines", "caf\xc3\xa9 \xc2\xa0 \xe7\x8c\xab", "\xc2"})
    EXPECT_EQ(visible(text), text);
}

TEST(Visible, IsAllThatIsSaid) {
  ::testing::internal::CaptureStderr();
  log_line("prompt '\x1b[2J'");
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "prompt '\\x1b[2J'\n");
  ::testing::internal::CaptureStdout();
  print_result("tensor \x1b[2J");
  EXPECT_EQ(::testing::internal::GetCapturedStdout(), "tensor \\x1b[2J\n");
}

}  // namespace
}  // namespace vggflow
