// A taste is learned from a simulated voter, who likes red: images of one colour and some noise, on
// the emoji-clip that comes with the program.
#include "vggflow/pretrain/vote_head_fit.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vggflow/core/random.h"
#include "vggflow/data/votes.h"
#include "vggflow/io/files.h"
#include "vggflow/io/image.h"
#include "vggflow/pretrain/pretrain.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;

// The redness of the image that is written.
double write_image(const std::filesystem::path& file, RandomStream& random) {
  Tensor pixels = at::empty({3, 32, 32});
  random.fill_normal({pixels.mutable_data_ptr<float>(), static_cast<size_t>(pixels.numel())});
  pixels.mul_(0.05);
  double colour[3];
  for (int c = 0; c < 3; ++c) pixels[c].add_(colour[c] = random.uniform());
  write_png(file, to_image(pixels));
  return colour[0] - (colour[1] + colour[2]) / 2;
}

void write_votes(const std::filesystem::path& folder, int64_t count) {
  for (const char* side : {"a", "b"}) make_writable_folder(folder / side);
  JsonLines lines(folder / "votes.jsonl");
  RandomStream random({7, Purpose::kTest, 0, 0});
  for (int64_t i = 0; i < count; ++i) {
    const std::string name = fmt::format("{:05}.png", i);
    const double a = write_image(folder / "a" / name, random),
                 b = write_image(folder / "b" / name, random);
    lines.write(json_of({.pair = i,
                         .prompt = "colour",
                         .a = "a/" + name,
                         .b = "b/" + name,
                         .winner = i % 10 == 0 ? VoteWinner::kTie
                                   : a > b     ? VoteWinner::kA
                                               : VoteWinner::kB}));
  }
}

TEST(VoteHeadFit, NamesTheWinnersOfVotesThatItHasNotSeen) {
  const testing::TemporaryFolder folder;
  write_votes(folder / "votes", 200);
  PretrainConfig config;
  config.run = (folder / "run").string();
  config.target = PretrainTarget::kVoteHead;
  config.vote_data.folders = {(folder / "votes").string()};
  config.vote_data.held_out = 0.4;
  config.fit.updates = config.fit.preview_every = 300;
  config.fit.warmup = 10;
  config.fit.optimizer.lr = 0.02;
  make_writable_folder(config.run);
  pretrain(config);
  const VoteData again = config.vote_data;
  VoteTask task(config.vote, again, static_cast<uint64_t>(config.fit.seed));
  EXPECT_EQ(task.test.preferred.numel(), 80);
  EXPECT_EQ(task.train.preferred.numel(), 120);
  task.model = VoteHead::load(folder / "run/model", [](const std::string&) {
    return std::filesystem::path(VGGFLOW_SOURCE_DIR) / "models/emoji-clip";
  });
  EXPECT_GT(task.accuracy(task.test), 0.8);
}

TEST(VoteHeadFit, SaysWhatItNeeds) {
  const testing::TemporaryFolder folder;
  const auto said = [](const VoteHeadOptions& options, const VoteData& data) {
    return testing::message_of([&] { VoteTask(options, data, 0); });
  };
  EXPECT_THAT(said({}, {}), HasSubstr("expected vote_data.folders"));
  EXPECT_THAT(said({}, {.folders = {folder.path().string()}}), HasSubstr("holds no votes"));
  EXPECT_THAT(said({.network = VoteNetwork::kClipVitL14}, {.folders = {folder.path().string()}}),
              HasSubstr("expected vote_data.network"));
  write_votes(folder.path(), 5);
  EXPECT_THAT(said({}, {.folders = {folder.path().string()}}),
              HasSubstr("expected at least 10 votes, got 5"));
}

}  // namespace
}  // namespace vggflow
