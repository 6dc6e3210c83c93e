// The check of a reward: passes what is right, and names each thing that is wrong. The stored
// scores are those of tools/reference/reward_scores_reference.py.
#include "vggflow/rewards/reward_check.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <limits>

#include "vggflow/io/files.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::message_of;

const std::filesystem::path kSource = VGGFLOW_SOURCE_DIR;

RewardCheckOptions options(const std::string& precision = "fp32") {
  return {.size = 12,
          .precision = precision,
          .stored = (kSource / "models/reward-scores.json").string()};
}

std::vector<std::string> failed(const std::vector<RewardCheckRow>& rows) {
  std::vector<std::string> names;
  for (const RewardCheckRow& r : rows) {
    if (!r.ok) names.push_back(r.name + ": " + r.found);
  }
  return names;
}

std::string found(const std::vector<RewardCheckRow>& rows, const std::string& name) {
  for (const RewardCheckRow& r : rows) {
    if (r.name == name) return r.found;
  }
  return "no such row";
}

// sum (x - 1/2)^4 with what a test makes wrong.
struct Quartic : Reward {
  double gradient_factor = 1, tangent_factor = 1;
  double fp32_factor = 1;         ///< of the gradient in fp32 alone
  int64_t channels_with_one = 3;  ///< channels that have a gradient
  double black = 0;               ///< score of black images
  bool counts_calls = false, sees_batch = false;
  mutable int calls = 0;

  template <TensorLike T>
  T value(const T& x) const {
    const T centred = x - T{lift<T>(at::full_like(primal(x), 0.5))};
    return ops::sum(ops::square(ops::square(centred)), {1, 2, 3}, /*keepdim=*/false);
  }
  Tensor score(const Tensor& x, const std::vector<std::string>&) const override {
    Tensor seen = x;
    if (channels_with_one < 3)
      seen = at::cat({x.narrow(1, 0, channels_with_one),
                      x.narrow(1, channels_with_one, 3 - channels_with_one).detach()},
                     1);
    const Tensor r = value(seen);
    Tensor out = r.detach() + gradient_factor * (x.scalar_type() == at::kFloat ? fp32_factor : 1) *
                                  (r - r.detach());
    if (counts_calls) out = out + ++calls;
    if (sees_batch) out = out + x.mean();
    return at::where(x.detach().flatten(1).amax(1) == 0, out * 0 + black, out);
  }
  Dual score(const Dual& x, const std::vector<std::string>&) const override {
    const Dual r = value(x);
    return {r.value, r.tangent * tangent_factor};
  }
};

// Those that need no files but the project's; the others' networks are held against their
// references in their own tests.
TEST(RewardCheck, PassesTheProjectsOwnRewardsWithTheirStoredScores) {
  for (const std::string name : {"colorfulness", "emoji-clip", "jpeg"}) {
    const auto reward = make_reward(name, {kSource / "models/emoji-clip"});
    for (const char* precision : {"fp32", "fp64"}) {
      const auto rows = check_reward(*reward, name, options(precision));
      EXPECT_THAT(failed(rows), IsEmpty()) << name << " in " << precision;
      EXPECT_NE(found(rows, "stored scores of 4 images"), "no such row") << name;
    }
  }
}

TEST(RewardCheck, PassesTheExamplePlugin) {
  const auto rows = check_reward(
      *make_reward(std::string("plugin:") + VGGFLOW_PLUGIN_SHARPNESS, {}), "sharpness", options());
  EXPECT_THAT(failed(rows), IsEmpty());
  EXPECT_THAT(found(rows, "stored scores"), HasSubstr("has none of sharpness"));
}

TEST(RewardCheck, FindsNothingWrongWithTheQuartic) {
  EXPECT_THAT(failed(check_reward(Quartic(), "quartic", options("fp64"))), IsEmpty());
}

TEST(RewardCheck, FindsAWrongGradient) {
  Quartic reward;
  reward.gradient_factor = 1.1;
  EXPECT_THAT(failed(check_reward(reward, "quartic", options())),
              ElementsAre(HasSubstr("slopes along the gradient"),
                          HasSubstr("slopes along a random half of it"),
                          HasSubstr("slopes in random directions")));
  for (const double factor : {-1.0, 1.01, 1 + 1e-4}) {
    reward.gradient_factor = factor;
    for (const char* precision : {"fp32", "fp64"})
      EXPECT_EQ(failed(check_reward(reward, "quartic", options(precision))).size(), 3)
          << factor << " in " << precision;
  }
  reward.gradient_factor = 1;
  reward.channels_with_one = 2;
  EXPECT_THAT(failed(check_reward(reward, "quartic", options())),
              ElementsAre(HasSubstr("slopes in random directions")));
}

TEST(RewardCheck, FindsAGradientThatIsWrongInFp32Alone) {
  Quartic reward;
  reward.fp32_factor = 1.1;
  EXPECT_THAT(failed(check_reward(reward, "quartic", options())),
              ElementsAre(HasSubstr("the gradient in fp32 against fp64: 1.0e-01")));
}

// Small steps of fp32 pixels are steps of nothing: what computes in fp32 inside is not judged by
// them.
TEST(RewardCheck, TakesSlopesInFp32WhereARewardComputesInIt) {
  struct Rounded : Quartic {
    Tensor score(const Tensor& x, const std::vector<std::string>& prompts) const override {
      return Quartic::score(x.to(at::kFloat), prompts).to(x.scalar_type());
    }
  };
  for (const char* precision : {"fp32", "fp64"}) {
    const auto rows = check_reward(Rounded(), "quartic", options(precision));
    EXPECT_EQ(found(rows, "slopes are taken in"), "fp32");
    EXPECT_THAT(failed(rows), IsEmpty()) << precision;
  }
  EXPECT_EQ(found(check_reward(Quartic(), "quartic", options()), "slopes are taken in"), "fp64");
}

TEST(RewardCheck, DoesNotJudgeSlopesThatBf16Rounds) {
  Quartic reward;
  reward.gradient_factor = 1.1;
  RewardCheckOptions o = options();
  o.low_precision = true;
  const auto rows = check_reward(reward, "quartic", o);
  EXPECT_THAT(failed(rows), IsEmpty());
  EXPECT_THAT(found(rows, "slopes along the gradient"), HasSubstr("not judged: bf16"));
}

TEST(RewardCheck, TellsHowFarAHessianProductIsOffDifferences) {
  Quartic reward;
  EXPECT_LT(std::stod(found(check_reward(reward, "quartic", options("fp64")),
                            "  off differences of the gradient")),
            1e-6);
  reward.tangent_factor = 2;
  EXPECT_EQ(
      found(check_reward(reward, "quartic", options("fp64")), "  off differences of the gradient"),
      "1.0e+00");
  reward.tangent_factor = std::numeric_limits<double>::infinity();
  EXPECT_THAT(failed(check_reward(reward, "quartic", options())),
              ::testing::Contains("Hessian products: 1728 not finite"));
}

TEST(RewardCheck, FindsScoresThatAreNotFinite) {
  Quartic reward;
  reward.black = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(failed(check_reward(reward, "quartic", options())),
              ElementsAre(HasSubstr("black images: no scores, 4 of 4 not finite")));
}

TEST(RewardCheck, FindsScoresThatDependOnMoreThanTheImage) {
  Quartic reward;
  reward.counts_calls = true;
  EXPECT_THAT(failed(check_reward(reward, "quartic", options())),
              ::testing::Contains(HasSubstr("the same scores again")));
  Quartic other;
  other.sees_batch = true;
  EXPECT_THAT(failed(check_reward(other, "quartic", options())),
              ::testing::Contains(HasSubstr("an image alone as in a batch")));
}

TEST(RewardCheck, HoldsScoresAgainstTheStoredOnes) {
  const testing::TemporaryFolder folder;
  RewardCheckOptions o = options();
  o.stored = (folder / "scores.json").string();
  const Quartic reward;
  EXPECT_THAT(message_of([&] { check_reward(reward, "quartic", o); }),
              HasSubstr("expected stored scores at stored=" + o.stored));
  write_text(
      o.stored,
      R"({"size": 8, "prompts": ["a", "b", "c", "d"], "scores": {"quartic": {"values": [1, 2, 3, 4]}}})");
  EXPECT_THAT(failed(check_reward(reward, "quartic", o)),
              ElementsAre(HasSubstr("stored scores of 4 images")));
  write_text(
      o.stored,
      R"({"size": 8, "prompts": ["a", "b", "c", "d"], "scores": {"quartic": {"values": [1, 2]}}})");
  EXPECT_THAT(message_of([&] { check_reward(reward, "quartic", o); }),
              HasSubstr("expected 4 scores of quartic"));
  write_text(
      o.stored,
      R"({"size": 8, "prompts": ["a", "b", "c", "d"], "scores": {"quartic": [1, 2, 3, 4]}})");
  EXPECT_THAT(message_of([&] { check_reward(reward, "quartic", o); }),
              HasSubstr("expected an object with values for quartic"));
  write_text(o.stored, "[]");
  EXPECT_THAT(message_of([&] { check_reward(reward, "quartic", o); }),
              HasSubstr("expected a JSON object with scores, prompts and size"));
}

TEST(RewardCheck, LeavesOutScoresOfOtherWeightsAndOfOtherPreprocessing) {
  const testing::TemporaryFolder folder;
  RewardCheckOptions o = options();
  o.stored = (folder / "scores.json").string();
  const auto row = [&](const std::string& reward, const std::string& key) {
    write_text(
        o.stored,
        fmt::format(
            R"({{"size": 8, "prompts": ["a", "b"], "scores": {{"{}": {{"values": [1, 2], {}}}}}}})",
            reward, key));
    o.prompts = {"ghost", "red heart"};
    for (const RewardCheckRow& r :
         check_reward(*make_reward(reward, {kSource / "models/emoji-clip"}), reward, o)) {
      if (r.name == "stored scores" && r.left_out) return r.found;
    }
    return std::string("no such row");
  };
  EXPECT_THAT(row("emoji-clip", R"("weights": "0123")"),
              HasSubstr("left out: they are of the weights 0123, these are "));
  EXPECT_THAT(row("jpeg", R"("preprocessing": "quality 1")"),
              HasSubstr("left out: they are of images quality 1"));
}

TEST(RewardCheck, TakesThePromptsOfTheStoredScoresUnlessOthersAreGiven) {
  const testing::TemporaryFolder folder;
  struct Prompts : Quartic {
    Tensor score(const Tensor& x, const std::vector<std::string>& prompts) const override {
      seen = prompts;
      return Quartic::score(x, prompts);
    }
    mutable std::vector<std::string> seen;
  };
  RewardCheckOptions o = options();
  o.stored = (folder / "scores.json").string();
  write_text(
      o.stored,
      R"({"size": 8, "prompts": ["a"], "scores": {"quartic": {"values": [1, 2, 3, 4], "prompts": ["a horse", "a ship", "b", "c"]}}})");
  const Prompts reward;
  check_reward(reward, "quartic", o);
  EXPECT_THAT(reward.seen, ElementsAre("a horse", "a ship", "b", "c"));
  o.prompts = {"x", "y", "z"};
  check_reward(reward, "quartic", o);
  EXPECT_THAT(reward.seen, ElementsAre("x", "y", "z"));
}

}  // namespace
}  // namespace vggflow
