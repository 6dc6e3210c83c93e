#include "vggflow/text/unicode.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

namespace vggflow::unicode {
namespace {

// What Python's bytes.decode(errors="replace") gives.
TEST(Utf8, ReplacesWhatIsNotUtf8OneMarkForEachBrokenSequence) {
  EXPECT_EQ(decode("a\xC3\xA9z"), U"aéz");
  EXPECT_EQ(decode("\xE2\x96"), U"\uFFFD");                            // cut in the middle
  EXPECT_EQ(decode("\xE2\x96x"), U"\uFFFDx");                          // the x is kept
  EXPECT_EQ(decode("\xC0\xAF"), U"\uFFFD\uFFFD");                      // overlong
  EXPECT_EQ(decode("\xED\xA0\x80"), U"\uFFFD\uFFFD\uFFFD");            // a surrogate
  EXPECT_EQ(decode("\xF4\x90\x80\x80"), U"\uFFFD\uFFFD\uFFFD\uFFFD");  // beyond U+10FFFF
  EXPECT_EQ(decode("\xF0\x9F\x99\x82\x80"), U"🙂\uFFFD");
}

TEST(Utf8, EveryCodePointSurvivesTheRoundTrip) {
  std::u32string all;
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c < 0xD800 || c > 0xDFFF) all += c;
  }
  EXPECT_EQ(decode(encode(all)), all);
}

TEST(Unicode, KnowsLettersNumbersAndWhiteSpaceBeyondAscii) {
  for (const char32_t c : U"aZéßЖ中あ한ªǅ𝕳")
    EXPECT_EQ(is_letter(c), c != 0) << static_cast<uint32_t>(c);
  for (const char32_t c : U"07½²Ⅷ٣①") EXPECT_EQ(is_number(c), c != 0) << static_cast<uint32_t>(c);
  for (const char32_t c : U" \t\n\u0085\u00A0\u3000\u2028")
    EXPECT_EQ(is_space(c), c != 0) << static_cast<uint32_t>(c);
  for (const char32_t c : U"-_€🙂\u0301\u200B")
    EXPECT_FALSE(is_letter(c) || is_number(c) || is_space(c)) << static_cast<uint32_t>(c);
}

TEST(Unicode, LowersWithoutContext) {
  EXPECT_EQ(lower(U"ÀÉ ΣΑΣ ЖЯ ẞ Ǆ İ 中1"), U"àé σασ жя ß ǆ i\u0307 中1");
}

TEST(Nfc, ComposesSortsAndLeavesExclusionsApart) {
  EXPECT_EQ(nfc(U"e\u0301"), U"é");
  EXPECT_EQ(nfc(U"q\u0307\u0323"), U"q\u0323\u0307");  // sorted by class
  EXPECT_EQ(nfc(U"o\u0323\u031B"), U"\u1EE3");         // two marks, one letter
  EXPECT_EQ(nfc(U"a\u0305\u0301"), U"a\u0305\u0301");  // blocked by a mark of the same class
  EXPECT_EQ(nfc(U"\u0958"), U"\u0915\u093C");          // excluded from composition
  EXPECT_EQ(nfc(U"\u212B\u2126"), U"ÅΩ");              // singletons
  EXPECT_EQ(nfc(U"\u1112\u1161\u11AB\uAC00\u11A8"), U"한각");  // Hangul
  std::u32string
      above;  // twenty marks of one class, more than a short sort keeps in order by chance
  for (char32_t c = 0x300; c < 0x314; ++c) above += c;
  EXPECT_EQ(nfc(U"x" + above + U"\u0323"), U"x\u0323" + above);
  EXPECT_EQ(nfc(nfc(U"a\u0308\u0304 ǖ ḯ")), nfc(U"a\u0308\u0304 ǖ ḯ"));
}

std::vector<size_t> ends(std::u32string_view text) {
  std::vector<size_t> out;
  for (size_t i = 0; i < text.size(); i = out.back()) out.push_back(grapheme_end(text, i));
  return out;
}

TEST(Graphemes, FollowTheRulesOfUax29) {
  using Ends = std::vector<size_t>;
  EXPECT_EQ(ends(U"ab"), (Ends{1, 2}));
  EXPECT_EQ(ends(U"\r\n\n"), (Ends{2, 3}));
  EXPECT_EQ(ends(U"e\u0301\u0302x"), (Ends{3, 4}));
  EXPECT_EQ(ends(U"\n\u0301"), (Ends{1, 2}));
  EXPECT_EQ(ends(U"\u1100\u1161\u11A8가\u11A8가가"), (Ends{3, 5, 6, 7}));
  EXPECT_EQ(ends(U"👩\u200D👧\u200Da"), (Ends{4, 5}));
  EXPECT_EQ(ends(U"🇩🇪🇫🇷🇯"), (Ends{2, 4, 5}));
  EXPECT_EQ(ends(U"\u0600a"), (Ends{2}));
  EXPECT_EQ(ends(U"\u0915\u094D\u0937\u0915"), (Ends{3, 4}));  // ka, virama, ssa | ka
  EXPECT_EQ(ends(U"\u0915\u200C\u094D\u0937"), (Ends{3, 4}));  // the non-joiner ends the conjunct
}

}  // namespace
}  // namespace vggflow::unicode
