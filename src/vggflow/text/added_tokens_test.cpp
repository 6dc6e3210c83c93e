#include "vggflow/text/added_tokens.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vggflow/core/error.h"
#include "vggflow/testing/message.h"
#include "vggflow/text/unicode.h"

namespace vggflow {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// The parts, tokens with their id behind.
std::vector<std::string> split(const std::vector<AddedToken>& tokens, std::u32string_view text) {
  const TokenSplitter splitter(tokens);
  std::vector<std::string> out;
  for (const auto& part : splitter.split(text)) {
    out.push_back(unicode::encode(part.text) +
                  (part.token ? fmt::format("#{}", part.token->id) : ""));
  }
  return out;
}

TEST(TokenSplitter, FindsTheLeftmostAndThereTheLongest) {
  const std::vector<AddedToken> tokens{
      {.id = 1, .content = U"ab"}, {.id = 2, .content = U"abc"}, {.id = 3, .content = U"bcd"}};
  EXPECT_THAT(split(tokens, U"xabcd"), ElementsAre("x", "abc#2", "d"));
  EXPECT_THAT(split(tokens, U"ababcbcd"), ElementsAre("ab#1", "abc#2", "bcd#3"));
  EXPECT_THAT(split(tokens, U"none"), ElementsAre("none"));
  EXPECT_THAT(split(tokens, U""), ElementsAre());
  EXPECT_THAT(split({}, U"ab"), ElementsAre("ab"));
}

TEST(TokenSplitter, SwallowsWhiteSpaceOnTheSidesThatTheTokenAsksFor) {
  const AddedToken none{.id = 1, .content = U"<n>"},
      left{.id = 2, .content = U"<l>", .lstrip = true},
      right{.id = 3, .content = U"<r>", .rstrip = true},
      both{.id = 4, .content = U"<b>", .lstrip = true, .rstrip = true};
  const std::vector<AddedToken> tokens{none, left, right, both};
  EXPECT_THAT(split(tokens, U"a <n> b"), ElementsAre("a ", "<n>#1", " b"));
  EXPECT_THAT(split(tokens, U"a  <l> b"), ElementsAre("a", "  <l>#2", " b"));
  EXPECT_THAT(split(tokens, U"a <r>\t\u3000b"), ElementsAre("a ", "<r>\t\u3000#3", "b"));
  EXPECT_THAT(split(tokens, U"a <b> \n b"), ElementsAre("a", " <b> \n #4", "b"));
  EXPECT_THAT(split(tokens, U"<r>  <l>"), ElementsAre("<r>  #3", "<l>#2"))
      << "white space goes to the first that takes it";
}

TEST(TokenSplitter, RefusesAnEmptyToken) {
  EXPECT_THAT(testing::message_of([] { TokenSplitter splitter({{.id = 7, .content = U""}}); }),
              HasSubstr("got an empty one with id 7"));
}

}  // namespace
}  // namespace vggflow
