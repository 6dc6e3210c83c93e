#include "vggflow/core/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;
using testing::message_of;

std::string nested(size_t levels) { return std::string(levels, '[') + std::string(levels, ']'); }

TEST(Json, CountsLevelsOutsideOfStringsAlone) {
  EXPECT_EQ(json_depth("3"), 0u);
  EXPECT_EQ(json_depth(R"({"a": [1, {"b": []}], "c": {}})"), 4u);
  EXPECT_EQ(json_depth(R"(["[[[", "\"[[", "\\", [], []])"), 2u);
  EXPECT_EQ(json_depth("]]]["), 1u);
}

TEST(Json, IsRefusedWhereItIsNestedTooDeeply) {
  EXPECT_NO_THROW(parse_json(nested(kDeepestJson), "a list"));
  EXPECT_THAT(message_of([] { parse_json(nested(kDeepestJson + 1), "a list"); }),
              HasSubstr("a list is nested 65 levels deep, expected at most 64"));
  // Deep enough to overflow a stack, and open at its end.
  EXPECT_TRUE(try_parse_json(nested(1000000)).is_discarded());
  EXPECT_TRUE(try_parse_json(std::string(1000000, '{')).is_discarded());
  EXPECT_EQ(try_parse_json(R"({"a": [1]})")["a"][0], 1);
}

TEST(Json, KeepsATextWhoseBytesAreNoUtf8) {
  const nlohmann::ordered_json value{{"run", "runs/\xe1"}, {"captions", {"\xc3\xa9"}}};
  EXPECT_EQ(json_text(value), "{\"run\":\"runs/\xef\xbf\xbd\",\"captions\":[\"\xc3\xa9\"]}");
  EXPECT_EQ(json_text(value["captions"], -1, /*ascii=*/true), "[\"\\u00e9\"]");
  EXPECT_EQ(json_text(value["captions"], 1), "[\n \"\xc3\xa9\"\n]");
}

TEST(Json, KnowsUtf8) {
  EXPECT_TRUE(is_utf8("caf\xc3\xa9"));
  for (const char* text : {"\xe1", "a\xff", "\xc3", "\xed\xa0\x80"})
    EXPECT_FALSE(is_utf8(text)) << text;
}

TEST(Json, ThatIsNoneIsNamed) {
  EXPECT_THAT(message_of([] { parse_json("{\"a\":}", "a/config.json"); }),
              HasSubstr("[json] a/config.json is not JSON: "));
  EXPECT_TRUE(try_parse_json("{").is_discarded());
}

}  // namespace
}  // namespace vggflow
