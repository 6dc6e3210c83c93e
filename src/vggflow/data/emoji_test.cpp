#include "vggflow/data/emoji.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "vggflow/core/error.h"
#include "vggflow/data/captions.h"
#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;

const EmojiSet& emoji() {
  static const EmojiSet set = load_emoji({});
  return set;
}

Tensor image_of(const std::string& name) {
  for (size_t i = 0; i < emoji().items.size(); ++i) {
    if (emoji().items[i].name == name) return emoji().images[static_cast<int64_t>(i)].to(at::kFloat);
  }
  throw Error("no emoji named " + name);
}

TEST(Emoji, DrawsNearlyEveryEntryOfTheList) {
  EXPECT_GE(emoji().items.size(), 3600u);
  EXPECT_LE(emoji().undrawn, 10);
  EXPECT_GE(emoji().subgroups.size(), 95u);
  std::set<std::string> groups;
  for (const EmojiItem& item : emoji().items) groups.insert(item.group);
  EXPECT_EQ(groups.size(), 9u);
  EXPECT_EQ(emoji().images.sizes(), (std::vector<int64_t>{static_cast<int64_t>(emoji().items.size()), 3, 32, 32}));
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
  EXPECT_EQ(without_skin_tone("kiss: woman, man, light skin tone, dark skin tone"), "kiss: woman, man");
  EXPECT_EQ(without_skin_tone("flag: Japan"), "flag: Japan");
}

TEST(Emoji, MissingFilesNameTheirPackages) {
  EXPECT_THAT(testing::message_of([] { load_emoji({.font = "/nonexistent.ttf"}); }),
              HasSubstr("install the Debian package fonts-noto-color-emoji"));
  EXPECT_THAT(testing::message_of([] { load_emoji({.list = "/nonexistent.txt"}); }), HasSubstr("install the Debian package unicode-data"));
}

TEST(Captions, EveryVariantTokenizesAndSharesAreAsAsked) {
  const Vocabulary vocabulary = build_vocabulary(emoji());
  std::map<std::string, int> kinds;
  for (uint64_t i = 0; i < 20000; ++i) {
    const EmojiItem& item = emoji().items[i % emoji().items.size()];
    RandomStream random({1, Purpose::kCaption, 0, i});
    const std::string caption = draw_caption(item, {}, random);
    EXPECT_NO_THROW(vocabulary.tokenize(caption)) << caption;
    ++kinds[caption.empty() ? "empty" : caption == subgroup_caption(item.subgroup) ? "subgroup" : "name"];
  }
  EXPECT_NEAR(kinds["empty"], 2000, 200);
  EXPECT_NEAR(kinds["subgroup"], 2400, 220);
}

TEST(Captions, DisplayPromptsAreNamesOfTheSet) {
  std::set<std::string> names;
  for (const EmojiItem& item : emoji().items) names.insert({item.name, item.base_name});
  EXPECT_EQ(display_prompts().size(), 64u);
  for (const std::string& prompt : display_prompts()) EXPECT_TRUE(names.contains(prompt)) << prompt;
}

TEST(Sampler, SubgroupSharesFollowTheSquareRootOfTheirBaseNames) {
  const EmojiSampler sampler(emoji());
  std::map<std::string, double> share;
  const int draws = 40000;
  for (uint64_t i = 0; i < draws; ++i) {
    share[emoji().items[static_cast<size_t>(sampler.draw_item(3, 0, i))].subgroup] += 1.0 / draws;
  }
  std::map<std::string, std::set<std::string>> names;
  for (const EmojiItem& item : emoji().items) names[item.subgroup].insert(item.base_name);
  double total = 0;
  for (const auto& [subgroup, bases] : names) total += std::sqrt(static_cast<double>(bases.size()));
  for (const auto& [subgroup, bases] : names) {
    const double want = std::sqrt(static_cast<double>(bases.size())) / total;
    EXPECT_NEAR(share[subgroup], want, 5 * std::sqrt(want / draws)) << subgroup;
  }
}

TEST(Sampler, ASampleIsTheSameInEveryBatch) {
  const EmojiSampler sampler(emoji());
  const Vocabulary vocabulary = build_vocabulary(emoji());
  const Batch all = make_batch(emoji(), sampler, vocabulary, {}, 5, 7, 0, 8);
  const Batch tail = make_batch(emoji(), sampler, vocabulary, {}, 5, 7, 5, 3);
  EXPECT_TRUE(at::equal(all.images.narrow(0, 5, 3), tail.images));
  EXPECT_TRUE(at::equal(all.ids.narrow(0, 5, 3), tail.ids));
  EXPECT_GE(all.images.min().item<float>(), -1);
  EXPECT_LE(all.images.max().item<float>(), 1);
}

TEST(Prompts, TrainingAndHeldOutPromptsAreDisjoint) {
  const EmojiSampler sampler(emoji());
  std::set<std::string> train;
  for (const Prompt& p : sampler.prompts(Split::kTrain)) train.insert(p.caption);
  const auto& held_out = sampler.prompts(Split::kHeldOut);
  for (const Prompt& p : held_out) EXPECT_FALSE(train.contains(p.caption)) << p.caption;
  const double share = static_cast<double>(held_out.size()) / static_cast<double>(held_out.size() + train.size());
  EXPECT_NEAR(share, 0.2, 0.04);
}

}  // namespace
}  // namespace vggflow
