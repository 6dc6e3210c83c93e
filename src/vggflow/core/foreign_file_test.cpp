#include "vggflow/core/foreign_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;
using testing::message_of;

TEST(ForeignFile, OrdinaryBytesAreNoKind) {
  for (const std::string& bytes :
       {std::string(), std::string("{}"), std::string("GGU"), std::string("version 1"),
        std::string("PK\x03\x04"), std::string(64, '\0'), std::string("\x89PNG\r\n\x1a\n")})
    EXPECT_EQ(foreign_kind(bytes), "") << bytes;
}

TEST(ForeignFile, TheLengthOfASafetensorsHeaderIsNoMark) {
  for (const char* begin : {"\x1f\x8b\x08", "PK\x03\x04", "\x80\x02\x8a\x0a"}) {
    const std::string bytes = std::string(begin) + std::string(8 - std::string(begin).size(), '\0');
    EXPECT_EQ(foreign_kind(bytes + "{\"a\""), "");
    EXPECT_FALSE(looks_like_torch(bytes + "{\"a\""));
  }
  EXPECT_TRUE(looks_like_torch("PK\x03\x04 and so on"));
}

TEST(ForeignFile, QuantisedWeightsAreKnownByTheirNames) {
  EXPECT_EQ(quantised_kind({"a.weight", "a.bias", "norm.scale"}), "");
  EXPECT_THAT(quantised_kind({"a.weight", "a.scale_weight"}),
              HasSubstr("scaled fp8 ('a.scale_weight' is there)"));
  EXPECT_THAT(quantised_kind({"a.weight", "a.weight.absmax"}), HasSubstr("bitsandbytes"));
  EXPECT_THAT(quantised_kind({"a.qweight"}), HasSubstr("packed integers"));
}

TEST(ForeignFile, ATextThatBeginsWithTheLettersOfAMarkIsNoKind) {
  for (const char* text : {"Rar! A pirate's parrot", "gguf, the llama", "version 2 of a red cat",
                           "rar!x", "htmlish clouds"})
    EXPECT_EQ(foreign_kind(text), "") << text;
  EXPECT_THAT(foreign_kind("Rar!\x1a\x07"), HasSubstr("RAR archive"));
  EXPECT_THAT(foreign_kind("7z\xbc\xaf\x27\x1c"), HasSubstr("7-Zip archive"));
  EXPECT_THAT(foreign_kind("GGUF"), HasSubstr("GGUF"));
}

TEST(ForeignFile, IsRefusedByReaderNameAndKind) {
  EXPECT_EQ(message_of([] { refuse_foreign("a red cat", "[prompts] a.txt"); }), "no error");
  EXPECT_THAT(message_of([] { refuse_foreign("\xEF\xBB\xBF<html>", "[prompts] a.txt"); }),
              HasSubstr("[prompts] a.txt is a web page and not the file"));
}

}  // namespace
}  // namespace vggflow
