// The tokenizer over a small vocabulary made here; parity with transformers is in
// tokenizer_parity_test.cpp.
#include "vggflow/text/clip_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "vggflow/core/error.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"
#include "vggflow/text/unicode.h"

namespace vggflow {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;

// A folder with the 512 byte tokens, the results of some merges, and the two marks. Length limit 8;
// pads with "!" if asked.
class ClipFolder : public ::testing::Test {
 protected:
  ClipFolder() {
    for (const std::string end : {"", "</w>"}) {
      char32_t next = 0x100;
      for (char32_t b = 0; b < 256; ++b) {
        const bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b != 0xAD);
        add(unicode::encode(std::u32string(1, printable ? b : next++)) + end);
      }
    }
    for (const char* token : {"ca", "cat</w>", "at</w>", "aa", "aaaa</w>", "aa</w>", "<Mark>",
                              "<|startoftext|>", "<|endoftext|>"})
      add(token);
    write("vocab.json", vocabulary.dump());
    write("merges.txt", "#version: 0.2\na t</w>\nc a\nca t</w>\na a\na a</w>\naa aa</w>\n");
    write("tokenizer_config.json", config("<|endoftext|>").dump());
  }

  void add(const std::string& token) { vocabulary[token] = vocabulary.size(); }
  int64_t id(const std::string& token) const { return vocabulary.at(token); }
  void write(const char* file, const std::string& text) const {
    std::ofstream(folder / file) << text;
  }
  nlohmann::json config(const std::string& pad) const {
    nlohmann::json added;
    for (const char* token : {"<|startoftext|>", "<|endoftext|>"}) {
      added[std::to_string(id(token))] = {{"content", token},
                                          {"normalized", std::string(token) == "<|startoftext|>"}};
    }
    added[std::to_string(id("<Mark>"))] = {{"content", "<Mark>"}, {"normalized", true}};
    if (pad == "!") added[std::to_string(id(pad))] = {{"content", pad}, {"normalized", false}};
    return {{"added_tokens_decoder", added},
            {"bos_token", "<|startoftext|>"},
            {"eos_token", {{"content", "<|endoftext|>"}}},
            {"pad_token", pad},
            {"model_max_length", 8}};
  }

  const testing::TemporaryFolder scratch;
  const std::filesystem::path folder = scratch.path();
  nlohmann::json vocabulary = nlohmann::json::object();
};

TEST_F(ClipFolder, MergesByRankAndNotByLength) {
  const ClipTokenizer t(folder);
  const int64_t bos = id("<|startoftext|>"), eos = id("<|endoftext|>");
  // "a t</w>" ranks before "c a", so "cat" never becomes one token.
  EXPECT_THAT(t.ids("Cat"), ElementsAre(bos, id("c"), id("at</w>"), eos));
  EXPECT_THAT(t.ids("aaaa"), ElementsAre(bos, id("aaaa</w>"), eos));
  EXPECT_THAT(t.ids("aaa"), ElementsAre(bos, id("aa"), id("a</w>"), eos))
      << "the leftmost pair goes first";
  EXPECT_THAT(t.ids(""), ElementsAre(bos, eos));
  EXPECT_THAT(t.ids("é"), ElementsAre(bos, id("Ã"), id("©</w>"), eos));
  EXPECT_EQ(t.ids("e\u0301"), t.ids("é")) << "composed first";
}

TEST_F(ClipFolder, FindsMarksInTheText) {
  const ClipTokenizer t(folder);
  const int64_t bos = id("<|startoftext|>"), eos = id("<|endoftext|>");
  EXPECT_THAT(t.ids("a<|endoftext|>b"), ElementsAre(bos, id("a</w>"), eos, id("b</w>"), eos));
  EXPECT_THAT(t.ids("<|STARTofText|>"), ElementsAre(bos, bos, eos))
      << "this mark is looked for in lower case";
  EXPECT_THAT(t.ids("<mARK>"), ElementsAre(bos, id("<Mark>"), eos))
      << "also where it is written with capitals itself";
  EXPECT_EQ(t.ids("<|EndOfText|>").size(), 2u + 2 + 9 + 2)
      << "and this one is not: <| endoftext |>";
}

TEST_F(ClipFolder, PadsWithTheTokenThatTheConfigurationNames) {
  const int64_t bos = id("<|startoftext|>"), eos = id("<|endoftext|>");
  EXPECT_THAT(ClipTokenizer(folder).encode("b!").ids,
              ElementsAre(bos, id("b</w>"), id("!</w>"), eos, eos, eos, eos, eos));
  write("tokenizer_config.json", config("!").dump());
  const int64_t pad = id("!");
  EXPECT_THAT(ClipTokenizer(folder).encode("b!").ids,
              ElementsAre(bos, id("b</w>"), pad, eos, pad, pad, pad, pad));
  // The other file stands in where the configuration names none.
  nlohmann::json without = config("!");
  without.erase("pad_token");
  write("tokenizer_config.json", without.dump());
  EXPECT_THAT(message_of([&] { ClipTokenizer t(folder); }),
              HasSubstr("expected 'pad_token' in tokenizer_config.json or special_tokens_map"));
  write("special_tokens_map.json", R"({"pad_token": {"content": "!"}})");
  EXPECT_EQ(ClipTokenizer(folder).pad_id(), pad);
}

TEST_F(ClipFolder, KeepsTheFirstTokensAndNamesTheRest) {
  const TokenizedPrompt cut = ClipTokenizer(folder).encode("a b c d e f g h");
  EXPECT_EQ(cut.ids.size(), 8u);
  EXPECT_EQ(cut.ids[6], id("f</w>"));
  EXPECT_EQ(cut.ids[7], id("<|endoftext|>"));
  EXPECT_EQ(cut.removed, "g h");
  EXPECT_EQ(ClipTokenizer(folder).encode("a b c d e f").removed, "");
}

TEST(ClipWords, SplitsAsTheExpressionDoes) {
  EXPECT_THAT(clip_words(U"i'm 12 don't!!'s  x"),
              ElementsAre(U"i", U"'m", U"1", U"2", U"don", U"'t", U"!!'", U"s", U"x"));
  EXPECT_THAT(clip_words(U"'ll ''ve"), ElementsAre(U"'ll", U"''", U"ve"));
  EXPECT_THAT(clip_words(U"!<|endoftext|><|endoftext|>"),
              ElementsAre(U"!<|", U"endoftext", U"|><|", U"endoftext", U"|>"));
  EXPECT_THAT(clip_words(U"<|endoftext|>"), ElementsAre(U"<|", U"endoftext", U"|>"));
}

TEST_F(ClipFolder, NamesAPointerOrAWebPageInTheFilesPlace) {
  const auto message = [&] { return message_of([&] { ClipTokenizer t(folder); }); };
  for (const char* file : {"tokenizer_config.json", "merges.txt", "vocab.json"}) {
    write(file, "version https://git-lfs.github.com/spec/v1\noid sha256:77\nsize 9\n");
    EXPECT_THAT(message(), HasSubstr(std::string(file) + " is a Git LFS pointer"));
    write(file, "<!DOCTYPE html><title>Sign in</title>");
    EXPECT_THAT(message(), HasSubstr(std::string(file) + " is a web page and not the file"));
  }
}

TEST_F(ClipFolder, RefusesFilesThatDoNotBelongTogether) {
  const auto message = [&] { return message_of([&] { ClipTokenizer t(folder); }); };
  write("merges.txt", "#version: 0.2\nx y\n");
  EXPECT_THAT(message(), HasSubstr("does not hold 'xy' (a merge's result)"));
  write("merges.txt", "a b c\n");
  EXPECT_THAT(message(), HasSubstr("expected two tokens per line"));
  write("merges.txt", "");
  nlohmann::json wrong = config("!");
  wrong["added_tokens_decoder"]["7"] = {{"content", "<|endoftext|>"}};
  write("tokenizer_config.json", wrong.dump());
  EXPECT_THAT(message(), HasSubstr("got 7"));
  write("tokenizer_config.json", "{");
  EXPECT_THAT(message(), HasSubstr("expected the JSON of a tokenizer in"));
  write("tokenizer_config.json",
        R"({"added_tokens_decoder": {"0": {"content": "!", "single_word": true}}})");
  EXPECT_THAT(message(), HasSubstr("single_word tokens are not supported"));
  write("vocab.json", R"({"a": 0, "b": 0})");
  EXPECT_THAT(message(), HasSubstr("expected every id from 0 to 1 once"));
  write("vocab.json", "[]");
  EXPECT_THAT(message(), HasSubstr("expected an object of tokens and ids"));
  std::filesystem::remove(folder / "vocab.json");
  EXPECT_THAT(message(), HasSubstr("the model folder is incomplete"));
}

}  // namespace
}  // namespace vggflow
