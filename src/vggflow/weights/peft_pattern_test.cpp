#include "vggflow/weights/peft_pattern.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;

// Every row as Python 3.11's re.match(rf"(.*\.)?({pattern})$", path) has it.
struct Row {
  const char* pattern;
  const char* path;
  bool matches;
};
void expect_rows(const std::vector<Row>& rows) {
  for (const Row& row : rows)
    EXPECT_EQ(peft_pattern_matches(row.pattern, row.path), row.matches)
        << row.pattern << " and " << row.path;
}

TEST(PeftPatterns, AreRegularExpressionsAsInPython) {
  const std::string path = "transformer_blocks.12.attn.to_q";
  for (const char* yes : {"to_q", "attn.to_q", R"(transformer_blocks\.\d+\.attn\.to_q)", ".*to_q",
                          R"(.*\.attn\.to_q)", "^transformer_blocks.12.attn.to_q", "to_[qk]",
                          "to_q|to_k", "to_k|to_q", R"(\w+)", "(12|13).attn.to_.", "to_q$",
                          R"((?:transformer_blocks)\.(?!11)\d+\..*)", "attn?.to_q{1}", ".*"})
    EXPECT_TRUE(peft_pattern_matches(yes, path)) << yes;
  for (const char* no :
       {"o_q", "to_", "to_q.", "^attn.to_q", R"(transformer_blocks\.\d\.attn\.to_q)",
        R"((?!transformer).*\d\.attn)", "to_k|to_v", ""})
    EXPECT_FALSE(peft_pattern_matches(no, path)) << no;
}

TEST(PeftPatterns, KnowPythonsAnchorsAndEdgesOfWords) {
  expect_rows({{R"(ff.proj\Z)", "blocks.3.ff.proj", true},
               {R"(ff\Z.proj)", "blocks.3.ff.proj", false},
               {R"(\Ablocks.3.ff.proj)", "blocks.3.ff.proj", true},
               {R"(\Aff.proj)", "blocks.3.ff.proj", false},
               {R"(.*\bff\b.*)", "blocks.3.ff.proj", true},
               {R"(.*\bf\b.*)", "blocks.3.ff.proj", false},
               {R"(f\Bf\Wproj)", "blocks.3.ff.proj", true},
               {R"(f+(?=\b\W)\Wproj)", "blocks.3.ff.proj", true},
               {R"(f+(?=^)\Wproj)", "blocks.3.ff.proj", false}});
}

TEST(PeftPatterns, ReadClassesOfSignsAsPythonDoes) {
  expect_rows({{"to_[]v]", "b.to_v", true},
               {"to_[]v]", "b.to_]", true},
               {"to_[^]v]", "b.to_v", false},
               {"to_[^]v]", "b.to_k", true},
               {"[[:digit:]]+_q", "12_q", false},
               {"[[:digit:]]_q", "d_q", false},
               {"[[:digit:]]_q", "d]_q", true},
               {"[[.t.]]o_q", "to_q", false},
               {"[[=t=]]o_q", "to_q", false},
               {R"([\w-]+)", "a-b_1", true},
               {R"([^\d.]+)", "ab1", false},
               {R"([\]b]+)", "b]", true},
               {"[a-c]+", "abcd", false}});
}

TEST(PeftPatterns, ReadRepeatsAndNamedGroupsAsPythonDoes) {
  expect_rows({{"q{,2}", "qq", true},
               {"q{,2}", "qqq", false},
               {"q{2,}", "qqqq", true},
               {"q{}", "q{}", true},
               {"q{x}", "q{x}", true},
               {"q+?k", "qqk", true},
               {"(q|k){3}", "qkq", true},
               {"(?:q?){2,3}k", "k", true},
               {"(?P<layer>q|k)_(?P<end>proj)", "k_proj", true}});
}

TEST(PeftPatterns, NameTheConstructThatIsNotRead) {
  for (const auto& [pattern, what] : std::vector<std::pair<const char*, const char*>>{
           {"(?i)To_Q", "'(?i'"},
           {"(?<=a)b", "a lookbehind"},
           {"(?<!a)b", "a lookbehind"},
           {"(?>a)b", "'(?>'"},
           {"a*+b", "a possessive repeat"},
           {"a**", "a repeat of a repeat"},
           {"*", "a repeat of nothing"},
           {"^*a", "a repeat of a place"},
           {R"((a)\1)", R"('\1')"},
           {R"(\x41)", R"('\x')"},
           {R"(\pL)", R"('\p')"},
           {"(", "a '(' without its ')'"},
           {"a)|(b", "a ')' without its '('"},
           {"[]", "no end of a class"},
           {"[b-a]", "a range that is none"},
           {"a{3,2}", "the wrong way round"},
           {"(?P<x>a)(?P<x>b)", "the name 'x' of a group"}})
    EXPECT_THAT(message_of([&] { peft_pattern_matches(pattern, "a"); }),
                AllOf(HasSubstr("which is not read: it has "), HasSubstr(what),
                      HasSubstr("or name the layers")))
        << pattern;
  EXPECT_THAT(message_of([] { peft_pattern_matches("caf\xc3\xa9*", "caf"); }),
              HasSubstr("expected ASCII signs"));
}

TEST(PeftPatterns, OfAnyKindEndSoon) {
  const std::string path(1500, 'a');
  EXPECT_FALSE(peft_pattern_matches("(a*)*b", path));
  EXPECT_THAT(message_of([&] { peft_pattern_matches("((.*(?!.*b)){9}){9}b", path); }),
              HasSubstr("takes too long"));
  EXPECT_THAT(message_of([&] { peft_pattern_matches(std::string(2001, 'a'), "a"); }),
              HasSubstr("expected at most 2000"));
}

}  // namespace
}  // namespace vggflow
