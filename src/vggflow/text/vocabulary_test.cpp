#include "vggflow/text/vocabulary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "vggflow/core/error.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(SplitWords, KeepsAccentsHyphensAndKeycaps) {
  EXPECT_THAT(split_words("flag: Côte d’Ivoire"), ElementsAre("flag", "côte", "d’ivoire"));
  EXPECT_THAT(split_words("keycap: #"), ElementsAre("keycap", "#"));
  EXPECT_THAT(split_words("waving hand: medium-light skin tone"),
              ElementsAre("waving", "hand", "medium-light", "skin", "tone"));
  EXPECT_THAT(split_words("Japanese “here” button, UP!"),
              ElementsAre("japanese", "here", "button", "up"));
  EXPECT_THAT(split_words("São Tomé & Príncipe"), ElementsAre("são", "tomé", "príncipe"));
  EXPECT_THAT(split_words("  "), ElementsAre());
}

TEST(Vocabulary, RoundTripsThroughItsFile) {
  const Vocabulary v({"red heart", "blue heart", "flag: Japan"}, 4);
  EXPECT_EQ(v.size(), 6);
  EXPECT_THAT(v.tokenize("Red heart"), ElementsAre(5, 3, 0, 0));
  const testing::TemporaryFolder folder;
  const auto file = folder / "vocabulary.txt";
  std::ofstream(file) << v.serialize();
  const Vocabulary w = Vocabulary::load(file);
  EXPECT_EQ(w.words(), v.words());
  EXPECT_EQ(w.tokenize("flag japan"), v.tokenize("flag japan"));
}

TEST(Vocabulary, NamesTheUnknownWordAndNearOnes) {
  const Vocabulary v({"red heart", "blue hearth", "flag: Japan"}, 4);
  const std::string message = testing::message_of([&] { v.tokenize("red haert"); });
  EXPECT_THAT(message, HasSubstr("does not know the word 'haert'"));
  EXPECT_THAT(message, HasSubstr("near words: heart"));
}

TEST(Vocabulary, RefusesACaptionOfTooManyWords) {
  const Vocabulary v({"a b c"}, 2);
  EXPECT_THROW(v.tokenize("a b c"), Error);
}

TEST(Vocabulary, RefusesAFileWithoutItsHead) {
  const testing::TemporaryFolder folder;
  const auto file = folder / "vocabulary.txt";
  std::ofstream(file) << "heart\n";
  EXPECT_THROW(Vocabulary::load(file), Error);
  std::ofstream(file) << "version https://git-lfs.github.com/spec/v1\noid sha256:77\nsize 9\n";
  EXPECT_THAT(testing::message_of([&] { Vocabulary::load(file); }),
              HasSubstr("vocabulary.txt is a Git LFS pointer and not the file itself"));
}

}  // namespace
}  // namespace vggflow
