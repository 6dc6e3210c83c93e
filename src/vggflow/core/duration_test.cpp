#include "vggflow/core/duration.h"

#include <gtest/gtest.h>

#include <limits>
#include <utility>

namespace vggflow {
namespace {

TEST(Duration, IsWrittenInTheUnitThatAPersonWouldUse) {
  for (const auto& [seconds, text] : {std::pair{0.0, "0 s"},
                                      {0.0004, "0.4 ms"},
                                      {0.412, "412 ms"},
                                      {0.9996, "1.0 s"},
                                      {9.4, "9.4 s"},
                                      {9.97, "10 s"},
                                      {59.4, "59 s"},
                                      {59.6, "1 min 00 s"},
                                      {192.0, "3 min 12 s"},
                                      {3599.6, "1 h 00 min"},
                                      {7500.0, "2 h 05 min"},
                                      {86399.0, "1 d 0 h"},
                                      {3 * 86400.0 + 4 * 3600.0, "3 d 4 h"},
                                      {5320.6 * 86400, "15 years"},
                                      {1e13, "?"}}) {
    EXPECT_EQ(duration_text(seconds), text) << seconds;
  }
  EXPECT_EQ(duration_text(std::numeric_limits<double>::quiet_NaN()), "?");
  EXPECT_EQ(duration_text(-3), "0 s");
}

TEST(Duration, SaysOfSlowWorkHowLongEachPieceTakes) {
  EXPECT_EQ(rate_text(12.46), "12.5/s");
  EXPECT_EQ(rate_text(1.0 / 14), "14 s each");
  EXPECT_EQ(rate_text(0), "?");
}

}  // namespace
}  // namespace vggflow
