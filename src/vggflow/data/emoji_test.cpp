#include "vggflow/data/emoji.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "vggflow/core/error.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;

const EmojiSet& emoji() {
  static const EmojiSet set = load_emoji({});
  return set;
}

Tensor image_of(const std::string& name) {
  for (size_t i = 0; i < emoji().items.size(); ++i) {
    if (emoji().items[i].name == name)
      return emoji().images[static_cast<int64_t>(i)].to(at::kFloat);
  }
  throw Error("no emoji named " + name);
}

TEST(Emoji, DrawsNearlyEveryEntryOfTheList) {
  EXPECT_GE(emoji().items.size(), 3600u);
  EXPECT_LE(emoji().undrawn, 10);
  EXPECT_EQ(emoji().items.size() + static_cast<size_t>(emoji().undrawn),
            parse_emoji_test(EmojiOptions{}.list).size());
  EXPECT_GE(emoji().subgroups.size(), 95u);
  std::set<std::string> groups;
  for (const EmojiItem& item : emoji().items) groups.insert(item.group);
  EXPECT_EQ(groups.size(), 9u);
  EXPECT_EQ(emoji().images.sizes(),
            (std::vector<int64_t>{static_cast<int64_t>(emoji().items.size()), 3, 32, 32}));
}

TEST(Emoji, PixelsHaveTheRightColoursInTheRightPlaces) {
  const Tensor japan = image_of("flag: Japan");
  EXPECT_GT(japan[0][16][16].item<float>(), 150);  // the disc is red
  EXPECT_LT(japan[1][16][16].item<float>(), 90);
  EXPECT_GT(japan.select(1, 0).min().item<float>(), 250);  // white above the flag
  const Tensor heart = image_of("red heart").mean({1, 2});
  EXPECT_GT(heart[0].item<float>(), heart[2].item<float>() + 50);
  const Tensor blue = image_of("blue heart").mean({1, 2});
  EXPECT_GT(blue[2].item<float>(), blue[0].item<float>() + 50);
}

TEST(Emoji, SkinTonesAreTakenOutOfNames) {
  EXPECT_EQ(without_skin_tone("waving hand: medium-light skin tone"), "waving hand");
  EXPECT_EQ(without_skin_tone("woman: dark skin tone, red hair"), "woman: red hair");
  EXPECT_EQ(without_skin_tone("kiss: woman, man, light skin tone, dark skin tone"),
            "kiss: woman, man");
  EXPECT_EQ(without_skin_tone("flag: Japan"), "flag: Japan");
}

TEST(Emoji, MissingFilesNameTheirPackages) {
  EXPECT_THAT(testing::message_of([] { load_emoji({.font = "/nonexistent.ttf"}); }),
              HasSubstr("install the Debian package fonts-noto-color-emoji"));
  EXPECT_THAT(testing::message_of([] { load_emoji({.list = "/nonexistent.txt"}); }),
              HasSubstr("install the Debian package unicode-data"));
}

// A file of the test's own, gone with it.
class ScratchFile {
 public:
  explicit ScratchFile(const std::string& content) {
    std::ofstream(path(), std::ios::binary) << content;
  }
  std::string path() const { return (folder_ / "file").string(); }

 private:
  testing::TemporaryFolder folder_;
};

TEST(Emoji, ShrinkingKeepsEveryImagesMean) {
  const EmojiSet small = load_emoji(
      {.size = 17});  // boxes of 8 x 8 whole bitmap pixels; at 32 they are of 4.25 x 4.25
  const Tensor difference =
      (small.images.to(at::kFloat).mean({2, 3}) - emoji().images.to(at::kFloat).mean({2, 3})).abs();
  EXPECT_LT(difference.max().item<float>(), 0.3f);  // both round to whole numbers
}

TEST(Emoji, ReadsOnlyFullyQualifiedEntries) {
  const ScratchFile list(
      "# group: Symbols\n# subgroup: keycap\n"
      "0023 FE0F 20E3 ; fully-qualified # #️⃣ E0.6 keycap: #\n"
      "0023 20E3 ; unqualified # #⃣ E0.6 keycap: #\n"
      "1F3FB ; component # 🏻 E1.0 light skin tone\n");
  const auto items = parse_emoji_test(list.path());
  ASSERT_EQ(items.size(), 1u);
  EXPECT_EQ(items[0].name, "keycap: #");
  EXPECT_EQ(items[0].group, "Symbols");
  EXPECT_EQ(items[0].subgroup, "keycap");
  EXPECT_EQ(items[0].codepoints, (std::vector<uint32_t>{0x23, 0xFE0F, 0x20E3}));
}

TEST(Emoji, CountsTheEntriesThatTheFontCannotDraw) {
  const ScratchFile list(
      "# group: G\n# subgroup: s\n"
      "1F600 ; fully-qualified # x E1.0 grinning face\n"
      "1F600 1F600 ; fully-qualified # x E1.0 two glyphs\n"
      "10FFFF ; fully-qualified # x E1.0 no glyph\n");
  const EmojiSet set = load_emoji({.list = list.path()});
  EXPECT_EQ(set.undrawn, 2);
  ASSERT_EQ(set.items.size(), 1u);
  EXPECT_EQ(set.images.size(0), 1);
  const EmojiSet listed = list_emoji({.list = list.path()});
  EXPECT_EQ(listed.undrawn, 2);
  EXPECT_EQ(listed.items.size(), 1u);
}

TEST(Emoji, ListsTheEntriesThatItDraws) {
  const EmojiSet listed = list_emoji({});
  EXPECT_FALSE(listed.images.defined());
  EXPECT_EQ(listed.undrawn, emoji().undrawn);
  EXPECT_EQ(listed.subgroups, emoji().subgroups);
  ASSERT_EQ(listed.items.size(), emoji().items.size());
  for (size_t i = 0; i < listed.items.size(); ++i) {
    EXPECT_EQ(listed.items[i].codepoints, emoji().items[i].codepoints);
    EXPECT_EQ(listed.items[i].subgroup_index, emoji().items[i].subgroup_index);
  }
}

TEST(Emoji, RefusesListsThatAreNotUnicodes) {
  const ScratchFile empty("# nothing here\n");
  EXPECT_THAT(testing::message_of([&] { parse_emoji_test(empty.path()); }),
              HasSubstr("got no fully-qualified entry"));
  for (const std::string code : {"heart", "1F600x", "110000", "FFFFFFFFFF"}) {
    const ScratchFile list(code + " ; fully-qualified # x E1.0 name\n");
    EXPECT_THAT(testing::message_of([&] { parse_emoji_test(list.path()); }),
                HasSubstr("expected a hexadecimal code point, got '" + code + "'"));
  }
}

TEST(Emoji, RefusesAFileThatIsNoFont) {
  const ScratchFile font("this is no font");
  EXPECT_THAT(testing::message_of([&] { load_emoji({.font = font.path()}); }),
              HasSubstr("cannot open the font"));
}

}  // namespace
}  // namespace vggflow
