#include "vggflow/data/prompt_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "vggflow/data/table.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;
using testing::TemporaryFolder;

class PromptFile : public ::testing::Test {
 protected:
  std::filesystem::path write(const std::string& name, const std::string& bytes) {
    std::ofstream(folder_ / name, std::ios::binary) << bytes;
    return folder_ / name;
  }
  std::string refusal(const std::string& name, const std::string& bytes) {
    const auto file = write(name, bytes);
    return message_of([&] { read_prompts(file); });
  }
  TemporaryFolder folder_;
};

TEST_F(PromptFile, ReadsOnePromptALineWhateverTheLineEnds) {
  EXPECT_THAT(
      read_prompts(write(
          "a.txt", "\xEF\xBB\xBF red heart \r\n\n# not a comment, \"as is\"\r\nein süßer Hund")),
      ElementsAre("red heart", "# not a comment, \"as is\"", "ein süßer Hund"));
  EXPECT_THAT(read_prompts(write("mac.txt", "a cat\ra dog\r\rtwo birds")),
              ElementsAre("a cat", "a dog", "two birds"));
  EXPECT_THAT(read_prompts(write("mac.csv", "id,prompt\r1,a cat\r2,\"a dog, wet\"\r")),
              ElementsAre("a cat", "a dog, wet"));
  EXPECT_THAT(read_prompts(write("mac.jsonl", "\"a cat\"\r{\"prompt\": \"a dog\"}\r")),
              ElementsAre("a cat", "a dog"));
}

TEST_F(PromptFile, ReadsTheColumnOfACsvFileWithQuotesAndLineBreaks) {
  EXPECT_THAT(
      read_prompts(
          write("a.csv",
                "id,Prompt\r\n1,plain\r\n2,\"a, \"\"quoted\"\"\nprompt\"\r\n\r\n3,5\" nails\r\n")),
      ElementsAre("plain", "a, \"quoted\"\nprompt", "5\" nails"));
  EXPECT_THAT(read_prompts(write("a.tsv", "Prompt\tCategory\na, b\tx\nc\n")),
              ElementsAre("a, b", "c"));
}

TEST_F(PromptFile, ReadsJsonLinesAndJsonArrays) {
  EXPECT_THAT(read_prompts(write("a.jsonl",
                                 "{\"id\": 3, \"prompt\": \"a \\u00e9\"}\n\n{\"prompt\": \"b\", "
                                 "\"other\": [1]}\n\"c\"\n")),
              ElementsAre("a é", "b", "c"));
  EXPECT_THAT(read_prompts(write("a.json", "[\"x\", {\"prompt\": \"y\"}]")), ElementsAre("x", "y"));
}

TEST_F(PromptFile, KeepsRepeatedPromptsAndSaysSo) {
  const auto file = write("a.txt", "a\nb\na\na\n");
  ::testing::internal::CaptureStderr();
  EXPECT_THAT(read_prompts(file), ElementsAre("a", "b", "a", "a"));
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              HasSubstr("2 of 4 prompts repeat an earlier one ('a' is prompt 1 and 3)"));
}

TEST_F(PromptFile, RefusesWhatHoldsNoPrompts) {
  EXPECT_THAT(refusal("empty.txt", ""), HasSubstr("holds no prompt: expected one per line"));
  EXPECT_THAT(refusal("blank.txt", "  \n\r\n"), HasSubstr("holds no prompt"));
  EXPECT_THAT(refusal("header.csv", "prompt\n"), HasSubstr("holds no prompt"));
  EXPECT_THAT(refusal("other.csv", "text,id\na,1\n"),
              HasSubstr("expected a column 'prompt', got the columns text, id"));
  EXPECT_THAT(refusal("hole.csv", "prompt,id\na,1\n,2\n"),
              HasSubstr("hole.csv:3: the prompt is empty"));
  EXPECT_THAT(message_of([&] { read_prompts(folder_ / "absent.txt"); }), HasSubstr("cannot read"));
  EXPECT_THAT(message_of([&] { read_prompts(folder_.path()); }), HasSubstr("cannot read"));
}

TEST_F(PromptFile, NamesAFileOfAnotherKind) {
  for (const char* name : {"list.txt", "list.csv", "list.json", "list"}) {
    EXPECT_THAT(
        refusal(name, "version https://git-lfs.github.com/spec/v1\noid sha256:77\nsize 9\n"),
        HasSubstr("is a Git LFS pointer and not the file itself: run `git lfs pull`"));
    EXPECT_THAT(refusal(name, "\n<html><body>Not found</body></html>"),
                HasSubstr("is a web page and not the file"));
    EXPECT_THAT(refusal(name, "\x1f\x8b\x08\x00"), HasSubstr("is compressed by gzip: unpack it"));
  }
  EXPECT_THAT(read_prompts(write("list.txt", "Rar! says the parrot\n")),
              ElementsAre("Rar! says the parrot"));
}

TEST_F(PromptFile, RefusesWhatIsNotUtf8AndNamesTheLine) {
  EXPECT_THAT(refusal("latin.txt", "good\nf\xFCr\n"),
              HasSubstr("latin.txt:2: expected UTF-8 text"));
  EXPECT_THAT(refusal("overlong.txt", "\xC0\xAF\n"), HasSubstr("overlong.txt:1: expected UTF-8"));
  EXPECT_THAT(refusal("wide.txt", std::string("a\0b\0", 4)),
              HasSubstr("wide.txt:1: expected UTF-8"));
}

TEST_F(PromptFile, RefusesBrokenTables) {
  EXPECT_THAT(refusal("a.csv", "prompt\nfine\n\"open\nstill open\n"),
              HasSubstr("a quote opened in the record at line 3 is never closed"));
  EXPECT_THAT(refusal("b.csv", "prompt,id\na, b,1\n"),
              HasSubstr("b.csv:2: expected at most 2 cells as in the header, got 3"));
  EXPECT_THAT(refusal("c.jsonl", "{\"prompt\": \"a\"}\n{\"prompt\": \n"),
              HasSubstr("c.jsonl:2: not valid JSON"));
  EXPECT_THAT(refusal("d.jsonl", "7\n"),
              HasSubstr("d.jsonl:1: expected a JSON object or string, got number"));
  EXPECT_THAT(refusal("e.json", "{\"prompt\": \"a\"}"),
              HasSubstr("expected a JSON array, got object"));
  EXPECT_THAT(message_of([&] { read_table(folder_ / "prompts.txt"); }),
              HasSubstr("expected a name that ends in .csv, .tsv"));
}

}  // namespace
}  // namespace vggflow
