#include "vggflow/networks/vision/vote_head.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>

#include "vggflow/testing/message.h"
#include "vggflow/testing/pattern.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;

// A tiny emoji-clip with random weights in a folder, and a head on it.
struct Saved {
  Saved() {
    save_clip(1);
    auto vectors = std::make_unique<VoteVectors>(VoteNetwork::kEmojiClip, folder / "clip");
    const VoteHeadOptions options{.network_hash = vectors->hash(), .width = vectors->width()};
    head = std::make_unique<VoteHead>(options, std::move(vectors));
    head->head.weight = testing::pattern_weight("head.weight", head->head.weight.sizes());
    head->save(folder / "head", {});
  }
  void save_clip(uint64_t seed) const {
    EmojiClip clip({.pool = 2, .widths = {8, 16}, .text_width = 8, .embedding = 12},
                   Vocabulary({"cat", "dog"}, 4));
    clip.init(seed);
    clip.save(folder / "clip", {});
  }
  FindWeights find() const {
    return [this](const std::string& name) {
      EXPECT_EQ(name, "emoji-clip");
      return folder / "clip";
    };
  }
  testing::TemporaryFolder folder;
  std::unique_ptr<VoteHead> head;
  Tensor images = testing::pattern("images", {3, 3, 32, 32}).to(at::kFloat).sigmoid();
};

TEST(VoteHead, IsLinearInTheNetworksUnitVectors) {
  const Saved s;
  const Tensor unit = s.head->vectors->embed(s.images);
  EXPECT_TRUE(at::allclose(unit.norm(2, 1), at::ones({3}), 1e-5, 1e-5));
  const Tensor expected = 10 * at::matmul(unit, s.head->head.weight.t()).view({3});
  EXPECT_TRUE(at::allclose(s.head->score(s.images), expected, 1e-5, 1e-5));
}

TEST(VoteHead, HasTheDirectionalDerivativeOfItsScore) {
  const Saved s;
  const Tensor direction = testing::pattern("direction", s.images.sizes()).to(at::kFloat);
  const double h = 1e-3;
  const Dual dual = s.head->score(Dual{s.images, direction});
  const Tensor numeric =
      (s.head->score(s.images + h * direction) - s.head->score(s.images - h * direction)) / (2 * h);
  EXPECT_TRUE(at::allclose(dual.value, s.head->score(s.images), 1e-5, 1e-5));
  EXPECT_TRUE(at::allclose(dual.tangent, numeric, 2e-2, 2e-2)) << dual.tangent << numeric;
}

TEST(VoteHead, ComesBackFromItsFolderAndRefusesOtherWeights) {
  const Saved s;
  const auto loaded = VoteHead::load(s.folder / "head", s.find());
  EXPECT_TRUE(at::equal(loaded->score(s.images), s.head->score(s.images)));
  const Tensor larger = at::ones({1, 3, 48, 40}).mul(0.5);
  EXPECT_EQ(loaded->score(larger).numel(), 1) << "images of any size";
  s.save_clip(2);
  EXPECT_THAT(testing::message_of([&] { VoteHead::load(s.folder / "head", s.find()); }),
              HasSubstr("[vote-head]"));
}

}  // namespace
}  // namespace vggflow
