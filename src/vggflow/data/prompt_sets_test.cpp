#include "vggflow/data/prompt_sets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;
using testing::message_of;

TEST(PromptOverlap, CountsEachPromptUnderItsClosestMatch) {
  const std::vector<std::string> train{"A red heart", "a photo of a cat on a mat", "ghost"};
  const PromptOverlap o = prompt_overlap(
      train, {"A red heart", "a  RED heart!", "photo of the cat on a mat", "blue car", "ghosts"},
      0.7);
  EXPECT_EQ(o.train, 3);
  EXPECT_EQ(o.eval, 5);
  EXPECT_EQ(o.exact, 1);
  EXPECT_EQ(o.normalized, 1);
  EXPECT_EQ(
      o.near,
      1);  // 6 words {photo of the cat on a mat} - "the" of 7: a, photo, of, cat, on, mat shared
  EXPECT_EQ(o.found(), 3);
  ASSERT_EQ(o.examples.size(), 3u);
  EXPECT_EQ(o.examples[2].train, "a photo of a cat on a mat");
  EXPECT_NEAR(o.examples[2].shared_words, 6.0 / 7, 1e-12);
}

TEST(PromptOverlap, FindsNothingInDisjointSets) {
  const PromptOverlap o = prompt_overlap({"red heart", "ghost"}, {"blue heart", "car"});
  EXPECT_EQ(o.found(), 0);
  EXPECT_TRUE(o.examples.empty());
  EXPECT_THAT(message_of([] { prompt_overlap({}, {}, 0); }),
              HasSubstr("expected a share of words in (0, 1], got 0"));
}

TEST(PromptOverlap, NormalizesCasePunctuationAndComposedLetters) {
  EXPECT_EQ(normalized_prompt("  A red,  RED-Heart! "), "a red red heart");
  EXPECT_EQ(normalized_prompt("Cafe\u0301 猫"), "café 猫");
  EXPECT_EQ(normalized_prompt("?!"), "");
}

// Two ranks with one seed: each pair twice, so half of the batch is its own.
TEST(BatchAudit, SeesRanksThatDrawTheSamePairs) {
  const BatchAudit a = audit_batch({"x", "y", "z", "x", "y", "z"}, {1, 2, 3, 1, 2, 3});
  EXPECT_EQ(a.samples, 6);
  EXPECT_EQ(a.unique_pairs, 3);
  EXPECT_EQ(a.repeated(), 3);
  EXPECT_EQ(a.most_repeats, 2);
  EXPECT_FALSE(a.repeated_prompt.empty());
}

TEST(BatchAudit, CountsPairsAndNotPromptsOrNoisesAlone) {
  const BatchAudit a = audit_batch({"x", "x", "y", "y"}, {1, 2, 1, 2});
  EXPECT_EQ(a.unique_pairs, 4);
  EXPECT_EQ(a.unique_prompts, 2);
  EXPECT_EQ(a.unique_noise, 2);
  EXPECT_EQ(a.repeated_prompt, "");
  EXPECT_THAT(message_of([] { audit_batch({"x"}, {}); }),
              HasSubstr("expected one noise per prompt, got 1 prompts and 0 noises"));
}

TEST(BatchAudit, HashesRowsByTheirBytes) {
  const at::Tensor x = at::arange(12, at::kFloat).view({3, 2, 2});
  const auto h = row_hashes(at::cat({x, x.narrow(0, 1, 1)}));
  ASSERT_EQ(h.size(), 4u);
  EXPECT_EQ(h[1], h[3]);
  EXPECT_NE(h[0], h[1]);
  EXPECT_NE(h[0], h[2]);
  EXPECT_EQ(row_hashes(x.transpose(1, 2).contiguous().transpose(1, 2))[1],
            h[1]);  // by place, not by layout
}

}  // namespace
}  // namespace vggflow
