// The tokenizer over a small model made here; parity with transformers is in
// tokenizer_parity_test.cpp.
#include "vggflow/text/t5_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "vggflow/core/error.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;

// A field of a protocol buffer that holds bytes; lengths below 128 only.
std::string field(int number, const std::string& bytes) {
  return std::string(1, static_cast<char>(number << 3 | 2)) + static_cast<char>(bytes.size()) +
         bytes;
}

std::string piece(const std::string& text, float score) {
  std::string number(4, '\0');
  std::memcpy(number.data(), &score, 4);
  return field(1, field(1, text) + static_cast<char>(2 << 3 | 5) + number);
}

// A trie that maps "A" to "a": unit 0 is the root, its child of label c stands at offset ^ c.
std::string character_map() {
  constexpr uint32_t kRoot = 1, kLeaf = 2, kLabel = 'A';
  std::vector<uint32_t> units(256, 0);
  units[0] = kRoot << 10;
  units[kRoot ^ kLabel] = (kRoot ^ kLabel ^ kLeaf) << 10 | 1u << 8 | kLabel;
  units[kLeaf] = 1u << 31 | 0;
  const auto size = static_cast<uint32_t>(units.size() * 4);
  std::string blob(4, '\0');
  std::memcpy(blob.data(), &size, 4);
  return blob + std::string(reinterpret_cast<const char*>(units.data()), size) +
         std::string("a\0", 2);
}

class T5Folder : public ::testing::Test {
 protected:
  T5Folder() {
    write("spiece.model", model());
    write("tokenizer_config.json", R"({"added_tokens_decoder": {"1": {"content": "</s>"},
                                       "113": {"content": "<extra_id_0>", "lstrip": true, "rstrip": true}}})");
  }

  // Ids 0 to 13 in this order, then the sentinels: <extra_id_99> is 14, <extra_id_0> is 113.
  static std::string model() {
    return piece("<pad>", 0) + piece("</s>", 0) + piece("<unk>", 0) + piece("▁", -3) +
           piece("a", -4) + piece("b", -4) + piece("ab", -7) + piece("▁a", -5) +
           piece("▁ab", -9.5f) + piece("bb", -9) + piece("c", -2) + piece("qr", -9) +
           piece("s", -8) + piece("rs", -1);
  }
  void write(const char* file, const std::string& text) const {
    std::ofstream(folder / file, std::ios::binary) << text;
  }
  std::string refusal() const {
    return message_of([&] { T5Tokenizer t(folder); });
  }
  const testing::TemporaryFolder scratch;
  const std::filesystem::path folder = scratch.path();
};

TEST_F(T5Folder, TakesTheSegmentationOfHighestScore) {
  const T5Tokenizer t(folder);
  EXPECT_THAT(t.ids("ab"), ElementsAre(7, 5, 1))
      << "▁a + b = -9 is above ▁ab = -9.5 and ▁ + ab = -10";
  EXPECT_THAT(t.ids("bb"), ElementsAre(3, 5, 5, 1)) << "b + b = -8 is above bb = -9";
  EXPECT_THAT(t.ids("  a \n\t ab "), ElementsAre(7, 7, 5, 1));
  EXPECT_THAT(t.ids(""), ElementsAre(1));
  EXPECT_THAT(t.ids("a▁c"), ElementsAre(7, 3, 10, 1)) << "the sign for a blank begins a word";
}

TEST_F(T5Folder, NeighbouringUnknownsAreOneTokenWithinAWord) {
  const T5Tokenizer t(folder);
  EXPECT_THAT(t.ids("xyza xy z"), ElementsAre(3, 2, 4, 3, 2, 3, 2, 1));
  // An unknown costs 10 more than the worst piece, -9.5: qr + s = -17 is above unknown q + rs =
  // -20.5.
  EXPECT_THAT(t.ids("qrs"), ElementsAre(3, 11, 12, 1));
}

TEST_F(T5Folder, FindsSpecialTokensInTheText) {
  const T5Tokenizer t(folder);
  EXPECT_EQ(t.size(), 114);
  EXPECT_THAT(t.ids("a  <extra_id_0>  b"), ElementsAre(7, 113, 3, 5, 1));
  EXPECT_THAT(t.ids("a</s>b"), ElementsAre(7, 1, 3, 5, 1));
  // <extra_id_1> has no rule here, yet it is a piece, and a better one than its characters.
  EXPECT_THAT(t.ids("<extra_id_1>"), ElementsAre(3, 112, 1));
}

TEST_F(T5Folder, CutsAndPadsToTheAskedLength) {
  const T5Tokenizer t(folder);
  EXPECT_THAT(t.encode("c c", 6).ids, ElementsAre(3, 10, 3, 10, 1, 0));
  const TokenizedPrompt cut = t.encode("c c a", 4);
  EXPECT_THAT(cut.ids, ElementsAre(3, 10, 3, 1));
  EXPECT_EQ(cut.removed, "c a");
  EXPECT_EQ(t.encode("c c", 5).removed, "");
  EXPECT_THAT(message_of([&] { t.encode("a", 0); }),
              HasSubstr("expected max_tokens of at least 1, got 0"));
}

TEST(CharacterMap, ReplacesTheShortestPrefixThatItKnows) {
  const CharacterMap map(character_map());
  EXPECT_EQ(map.find("A").value(), "a");
  EXPECT_EQ(map.find("Az").value(), "a");
  EXPECT_FALSE(map.find("B").has_value());
  EXPECT_FALSE(map.find("").has_value());
  EXPECT_FALSE(CharacterMap().find("A").has_value());
}

TEST(CharacterMap, RefusesLengthsThatDoNotFit) {
  std::string blob = character_map();
  EXPECT_THAT(message_of([&] { CharacterMap map(blob.substr(0, 3)); }),
              HasSubstr("a character map of 3 bytes"));
  EXPECT_THAT(message_of([&] { CharacterMap map(blob.substr(0, 100)); }),
              HasSubstr("a trie of 1024 bytes where 96 are left"));
  blob.back() = 'a';
  EXPECT_THAT(message_of([&] { CharacterMap map(blob); }),
              HasSubstr("without a zero at their end"));
}

TEST_F(T5Folder, RefusesFilesThatAreCutOrOfAnotherKind) {
  write("spiece.model", "version https://git-lfs.github.com/spec/v1\noid sha256:77\nsize 9\n");
  EXPECT_THAT(refusal(), HasSubstr("spiece.model is a Git LFS pointer and not the file itself"));
  write("spiece.model", model().substr(0, model().size() - 3));
  EXPECT_THAT(refusal(), HasSubstr("expected a sentencepiece unigram model"));
  EXPECT_THAT(refusal(), HasSubstr("copy the file again"));
  write("spiece.model", model() + field(2, std::string("\x18\x02", 2)));
  EXPECT_THAT(refusal(), HasSubstr("a model of type 2 (unigram is 1)"));
  write("spiece.model", piece("<unk>", 0));
  EXPECT_THAT(refusal(), HasSubstr("expected the piece '<pad>' at 0"));
  write("spiece.model", "");
  EXPECT_THAT(refusal(), HasSubstr("no pieces"));
  write("spiece.model", model());
  write("tokenizer_config.json", R"({"added_tokens_decoder": {"5": {"content": "</s>"}}})");
  EXPECT_THAT(refusal(), HasSubstr("got '</s>' as 5"));
}

}  // namespace
}  // namespace vggflow
