#include "vggflow/data/captions.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <set>

namespace vggflow {
namespace {

const EmojiSet& emoji() {
  static const EmojiSet set = load_emoji({});
  return set;
}

TEST(Captions, EveryVariantOfEveryItemTokenizes) {
  const Vocabulary vocabulary = build_vocabulary(emoji());
  for (const EmojiItem& item : emoji().items) {
    for (const std::string& caption :
         {item.name, item.base_name, subgroup_caption(item.subgroup), std::string()}) {
      EXPECT_NO_THROW(vocabulary.tokenize(caption)) << caption;
    }
  }
}

TEST(Captions, DifferentNamesHaveDifferentTokens) {
  const Vocabulary vocabulary = build_vocabulary(emoji());
  std::map<std::vector<int64_t>, std::string> seen;
  for (const EmojiItem& item : emoji().items) {
    const auto [at, added] = seen.try_emplace(vocabulary.tokenize(item.name), item.name);
    EXPECT_TRUE(added) << item.name << " and " << at->second;
  }
}

TEST(Captions, TheCommittedModelsKnowEveryCaption) {
  for (const std::string model : {"nano", "emoji-clip"}) {
    const auto file =
        std::filesystem::path(VGGFLOW_SOURCE_DIR) / "models" / model / "vocabulary.txt";
    const Vocabulary vocabulary = Vocabulary::load(file);
    for (const EmojiItem& item : emoji().items)
      EXPECT_NO_THROW(vocabulary.tokenize(item.name)) << model;
    for (const std::string& subgroup : emoji().subgroups)
      EXPECT_NO_THROW(vocabulary.tokenize(subgroup_caption(subgroup))) << model;
  }
}

TEST(Captions, SkinTonesAreLeftOutAtTheAskedShare) {
  const auto& items = emoji().items;
  const auto toned = std::find_if(items.begin(), items.end(), [](const EmojiItem& i) {
    return i.name == "thumbs up: dark skin tone";
  });
  ASSERT_NE(toned, items.end());
  for (const double share : {0.0, 0.3, 1.0}) {
    int bare = 0;
    for (uint64_t i = 0; i < 4000; ++i) {
      RandomStream random({2, Purpose::kCaption, 0, i});
      bare += draw_caption(*toned, {.empty = 0, .subgroup = 0, .drop_skin_tone = share}, random) ==
              "thumbs up";
    }
    EXPECT_NEAR(bare, 4000 * share, 5 * std::sqrt(4000 * share * (1 - share)));
  }
}

TEST(Captions, KindsOfCaptionsHaveTheirShares) {
  std::map<std::string, int> kinds;
  for (uint64_t i = 0; i < 20000; ++i) {
    const EmojiItem& item = emoji().items[i % emoji().items.size()];
    RandomStream random({1, Purpose::kCaption, 0, i});
    const std::string caption = draw_caption(item, {}, random);
    ++kinds[caption.empty()                              ? "empty"
            : caption == subgroup_caption(item.subgroup) ? "subgroup"
                                                         : "name"];
  }
  EXPECT_NEAR(kinds["empty"], 2000, 200);
  EXPECT_NEAR(kinds["subgroup"], 2400, 220);
}

TEST(Captions, DisplayPromptsAreNamesOfTheSetAndCoverItsGroups) {
  std::map<std::string, std::string> group_of;
  std::set<std::string> groups, shown;
  for (const EmojiItem& item : emoji().items) {
    group_of[item.name] = group_of[item.base_name] = item.group;
    groups.insert(item.group);
  }
  EXPECT_EQ(std::set<std::string>(display_prompts().begin(), display_prompts().end()).size(), 64u);
  for (const std::string& prompt : display_prompts()) {
    ASSERT_TRUE(group_of.contains(prompt)) << prompt;
    shown.insert(group_of[prompt]);
  }
  EXPECT_EQ(shown, groups);
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

TEST(Sampler, DrawsBaseNamesUniformlyThenTheirVariants) {
  const EmojiSampler sampler(emoji());
  std::map<std::string, std::map<std::string, int>>
      counts;  // base name -> name -> draws, in one subgroup
  int total = 0;
  for (uint64_t i = 0; i < 200000; ++i) {
    const EmojiItem& item = emoji().items[static_cast<size_t>(sampler.draw_item(4, 0, i))];
    if (item.subgroup != "hand-fingers-closed") continue;
    ++counts[item.base_name][item.name];
    ++total;
  }
  ASSERT_EQ(counts.size(), 6u);
  for (const auto& [base, variants] : counts) {
    ASSERT_EQ(variants.size(), 6u) << base;
    const double want = total / 36.0;
    for (const auto& [name, count] : variants)
      EXPECT_NEAR(count, want, 5 * std::sqrt(want)) << name;
  }
}

TEST(Sampler, ABatchHoldsTheDrawnItemsScaledToMinusOneAndOne) {
  const EmojiSampler sampler(emoji());
  const Vocabulary vocabulary = build_vocabulary(emoji());
  const Batch batch = make_batch(emoji(), sampler, vocabulary,
                                 {.empty = 0, .subgroup = 0, .drop_skin_tone = 0}, 6, 2, 10, 4);
  for (int64_t i = 0; i < 4; ++i) {
    const int64_t item = sampler.draw_item(6, 2, 10 + static_cast<uint64_t>(i));
    const EmojiItem& want = emoji().items[static_cast<size_t>(item)];
    EXPECT_TRUE(
        at::allclose(batch.images[i], 2 * emoji().images[item].to(at::kFloat) / 255 - 1, 0, 1e-6));
    EXPECT_EQ(batch.subgroups[i].item<int64_t>(), want.subgroup_index);
    EXPECT_EQ(batch.captions[static_cast<size_t>(i)], want.name);
    EXPECT_TRUE(at::equal(batch.ids[i], at::tensor(vocabulary.tokenize(want.name))));
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
  const double share =
      static_cast<double>(held_out.size()) / static_cast<double>(held_out.size() + train.size());
  EXPECT_NEAR(share, 0.2, 0.04);
}

TEST(Prompts, TheSplitOfANameDoesNotDependOnTheOtherNames) {
  EmojiSet half = emoji();
  std::erase_if(half.items, [](const EmojiItem& item) { return item.codepoints.front() % 2 == 0; });
  std::set<std::string> held_out, kept;
  for (const EmojiItem& item : half.items) kept.insert(item.base_name);
  const EmojiSampler whole_sampler(emoji()), half_sampler(half);
  for (const Prompt& p : whole_sampler.prompts(Split::kHeldOut)) {
    if (kept.contains(p.caption)) held_out.insert(p.caption);
  }
  std::set<std::string> found;
  for (const Prompt& p : half_sampler.prompts(Split::kHeldOut)) found.insert(p.caption);
  EXPECT_GT(found.size(), 50u);
  EXPECT_EQ(found, held_out);
}

TEST(Prompts, NameAnItemOfTheirBaseNameAndSubgroup) {
  const EmojiSampler sampler(emoji());
  for (const Split split : {Split::kTrain, Split::kHeldOut}) {
    for (const Prompt& p : sampler.prompts(split)) {
      EXPECT_EQ(emoji().items[static_cast<size_t>(p.item)].base_name, p.caption);
      EXPECT_EQ(emoji().items[static_cast<size_t>(p.item)].subgroup_index, p.subgroup);
    }
  }
}

// A prompt weighs 1/sqrt(n), n being the base names of its whole subgroup, so the split's subgroup
// of m of them weighs m/sqrt(n).
TEST(Prompts, AreDrawnByTheWeightOfTheirSubgroup) {
  const EmojiSampler sampler(emoji());
  std::vector<double> n(emoji().subgroups.size()), m(n.size()), drawn(n.size());
  for (const Split split : {Split::kTrain, Split::kHeldOut}) {
    for (const Prompt& p : sampler.prompts(split)) ++n[static_cast<size_t>(p.subgroup)];
  }
  for (const Prompt& p : sampler.prompts(Split::kHeldOut)) ++m[static_cast<size_t>(p.subgroup)];
  double total = 0;
  for (size_t g = 0; g < n.size(); ++g) total += m[g] / std::sqrt(n[g]);
  const int draws = 20000;
  for (const Prompt& p : sampler.draw_prompts(Split::kHeldOut, 1, Purpose::kTest, 0, 0, draws))
    ++drawn[static_cast<size_t>(p.subgroup)];
  for (size_t g = 0; g < n.size(); ++g) {
    const double want = draws * m[g] / std::sqrt(n[g]) / total;
    EXPECT_NEAR(drawn[g], want, 5 * std::sqrt(want)) << emoji().subgroups[g];
  }
}

TEST(Prompts, ASampleIsTheSameInEveryBatchAndChangesWithTheUpdate) {
  const EmojiSampler sampler(emoji());
  const auto captions = [&](uint64_t update, uint64_t first, int64_t count) {
    std::vector<std::string> out;
    for (const Prompt& p :
         sampler.draw_prompts(Split::kTrain, 3, Purpose::kPrompt, update, first, count))
      out.push_back(p.caption);
    return out;
  };
  const auto all = captions(9, 0, 16);
  EXPECT_EQ(std::vector<std::string>(all.begin() + 10, all.end()), captions(9, 10, 6));
  EXPECT_NE(all, captions(10, 0, 16));
}

}  // namespace
}  // namespace vggflow
