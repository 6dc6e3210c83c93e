#include "vggflow/core/listing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vggflow {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(Listing, KeepAtMostTwoThousandBytesOfBeginAndEnd) {
  const std::string whole = "where" + std::string(1995, 'x');
  EXPECT_EQ(bounded_message(whole), whole);
  const std::string cut = bounded_message(whole + std::string(50000, 'y') + "what to do");
  EXPECT_EQ(cut.size(), 2000u);
  EXPECT_THAT(cut, StartsWith("where"));
  EXPECT_THAT(cut, HasSubstr("x [...] y"));
  EXPECT_THAT(cut, EndsWith("what to do"));
}

TEST(Listing, NeverCutACharacter) {
  std::string text;
  for (int i = 0; i < 2000; ++i) text += "猫";
  for (const char* begin : {"", "a", "ab"}) {
    std::string cut = bounded_message(begin + text);
    EXPECT_LE(cut.size(), 2000u);
    for (const std::string part : {"猫", "a", "b", " [...] "}) {
      for (size_t at = 0; (at = cut.find(part)) != std::string::npos;) cut.erase(at, part.size());
    }
    EXPECT_EQ(cut, "");
  }
}

TEST(Listing, ClipsAtWholeCharacters) {
  EXPECT_EQ(clipped("abc", 3), "abc");
  EXPECT_EQ(clipped("abcd", 3), "abc...");
  EXPECT_EQ(clipped("a猫", 3), "a...");
}

TEST(Listing, CountsOneThingAndMany) {
  EXPECT_EQ(count_of(1, "fault"), "1 fault");
  EXPECT_EQ(count_of(0, "image"), "0 images");
  EXPECT_EQ(count_of(719, "tensor"), "719 tensors");
}

TEST(Listing, ShowFiveExamplesAndCountTheRest) {
  EXPECT_EQ(examples_of({}), "");
  EXPECT_EQ(examples_of({"a", "b"}), "a; b");
  EXPECT_EQ(examples_of({"a", "b", "c", "d", "e", "f", "g"}, ", "), "a, b, c, d, e, and 2 more");
  EXPECT_EQ(examples_of({std::string(400, 'x')}), std::string(300, 'x') + "...");
}

}  // namespace
}  // namespace vggflow
