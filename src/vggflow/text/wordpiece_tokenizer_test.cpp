// BERT's tokenizer against transformers 5.23's on a vocabulary made up for it: values from
// tools/reference/wordpiece_reference.py. With the real vocabulary: wordpiece_parity_test.cpp.
#include "vggflow/text/wordpiece_tokenizer.h"

#include <ATen/core/Tensor.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "vggflow/core/error.h"
#include "vggflow/io/safetensors.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;

const fs::path kData = fs::path(VGGFLOW_SOURCE_DIR) / "src/vggflow/text/testdata";

TEST(Wordpiece, GivesTheIdsOfTransformers) {
  const SafetensorsFile file(kData / "wordpiece_reference.safetensors");
  const auto numbers = [&](const std::string& name) {
    const Tensor t = file.load(name).to(at::kLong);
    return std::vector<int64_t>(t.const_data_ptr<int64_t>(),
                                t.const_data_ptr<int64_t>() + t.numel());
  };
  const Tensor bytes = file.load("prompts");
  const std::string all(reinterpret_cast<const char*>(bytes.const_data_ptr<uint8_t>()),
                        static_cast<size_t>(bytes.numel()));
  const auto ends = numbers("prompt_ends"), ids = numbers("ids"), id_ends = numbers("id_ends");
  const WordpieceTokenizer tokenizer(kData / "wordpiece_vocab.txt", {"[DEC]", "[ENC]"});
  ASSERT_GT(ends.size(), 500u);
  int64_t begin = 0, id_begin = 0;
  for (size_t i = 0; i < ends.size(); begin = ends[i], id_begin = id_ends[i], ++i) {
    const std::string prompt =
        all.substr(static_cast<size_t>(begin), static_cast<size_t>(ends[i] - begin));
    EXPECT_EQ(tokenizer.ids(prompt),
              std::vector<int64_t>(ids.begin() + id_begin, ids.begin() + id_ends[i]))
        << "prompt " << i << ": " << prompt;
  }
}

TEST(Wordpiece, WordsEndAtWhiteSpacePunctuationAndChineseCharacters) {
  EXPECT_THAT(bert_words(U"Ça va? it's\u00A0a\tCAT"),
              ElementsAre(U"ca", U"va", U"?", U"it", U"'", U"s", U"a", U"cat"));
  EXPECT_THAT(bert_words(U"猫cat座 カナ 가"),
              ElementsAre(U"猫", U"cat", U"座", U"カナ", U"\u1100\u1161"));
  EXPECT_THAT(bert_words(U"a\u200Bb\x01"
                         U"c 1$2"),
              ElementsAre(U"abc", U"1", U"$", U"2"));
  EXPECT_THAT(bert_words(U" \n"), ElementsAre());
}

class WordpieceFile : public ::testing::Test {
 protected:
  fs::path write(const std::string& text) const {
    std::ofstream(folder / "vocab.txt") << text;
    return folder / "vocab.txt";
  }
  testing::TemporaryFolder folder;
};

TEST_F(WordpieceFile, TakesTheLongestPieceFirstAndLeavesNoWordHalfKnown) {
  const WordpieceTokenizer t(
      write("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nun\nuna\n##aff\n##able\n##ff\n"), {"[DEC]"});
  EXPECT_THAT(t.ids("unaffable"), ElementsAre(2, 6, 9, 8, 3));
  EXPECT_THAT(t.ids("unaffables un"), ElementsAre(2, 1, 5, 3))
      << "una ##ff ##able ##s: the last piece is not known";
  EXPECT_THAT(t.ids("un[DEC]un"), ElementsAre(2, 5, 10, 5, 3));
  EXPECT_THAT(t.ids("un un un", 4), ElementsAre(2, 5, 5, 3));
  EXPECT_THAT(t.ids("un un", 4), ElementsAre(2, 5, 5, 3));
  EXPECT_EQ(t.size(), 11);
  EXPECT_THAT(
      WordpieceTokenizer(write("[PAD]\r\n[UNK]\r\n[CLS]\r\n[SEP]\r\n[MASK]\r\nun\r\n")).ids("un"),
      ElementsAre(2, 5, 3))
      << "a file from Windows";
}

TEST_F(WordpieceFile, RefusesFilesThatAreNoVocabulary) {
  EXPECT_THAT(message_of([&] { WordpieceTokenizer t(write("[PAD]\n[UNK]\n[CLS]\n")); }),
              HasSubstr("[wordpiece] expected '[SEP]' in"));
  EXPECT_THAT(message_of([&] { WordpieceTokenizer t(write("[PAD]\n[PAD]\n")); }),
              HasSubstr("got '[PAD]' twice"));
  EXPECT_THAT(message_of([&] { WordpieceTokenizer t(folder / "none.txt"); }),
              HasSubstr("cannot read"));
}

}  // namespace
}  // namespace vggflow
