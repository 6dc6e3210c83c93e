#include "vggflow/eval/evaluate.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <optional>

#include "vggflow/testing/message.h"
#include "vggflow/testing/ranks.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;

// Noise taken for images: an evaluation of a model that draws what it is given.
Evaluation evaluated(const std::string& features, int64_t batch = 0, const Group& group = {}) {
  const std::filesystem::path models = std::filesystem::path(VGGFLOW_SOURCE_DIR) / "models";
  EvalOptions options;
  options.images = 4;
  options.features = features;
  options.batch = batch;
  const auto reward = make_reward("colorfulness", {});
  Evaluator evaluator(
      options, {{"ghost"}, {"wave"}}, *reward, /*judge=*/nullptr,
      load_evaluation_features(
          options, {.judge = models / "judge", .emoji_clip = models / "emoji-clip"}, nullptr),
      {}, {3, 32, 32}, group);
  return evaluator.evaluate_base([](const std::vector<std::string>&, const Tensor& noise) {
    return (0.4 * noise).clamp(-1, 1);
  });
}

TEST(Evaluator, TakesDiversityAndDistancesOnTheNamedNetwork) {
  const Evaluation plain = evaluated("auto"), clip = evaluated("emoji-clip"),
                   judge = evaluated("judge");
  EXPECT_EQ(plain.features, "pixels-8x8");
  EXPECT_EQ(clip.features, "emoji-clip");
  EXPECT_EQ(judge.features, "judge");
  EXPECT_FALSE(judge.judged) << "features alone make no judge";
  EXPECT_EQ(plain.reward.mean, clip.reward.mean);
  EXPECT_NE(plain.diversity.mean, clip.diversity.mean);
  EXPECT_NE(clip.diversity.mean, judge.diversity.mean);
  EXPECT_THAT(testing::message_of([] { evaluated("dreamsim"); }),
              HasSubstr("expected the path of dreamsim's weights: dreamsim=PATH"));
}

// About one picture, a prompt's diversity goes with the square of what its images add to it.
TEST(Evaluator, KeepsTheShareOfDiversityThatPromptsKeepOnAverage) {
  EvalOptions options;
  options.images = 8;
  const auto reward = make_reward("colorfulness", {});
  Evaluator evaluator(options, {{"a"}, {"b"}}, *reward, nullptr, nullptr, {}, {3, 32, 32});
  const auto drawn = [](double a, double b) {
    return [a, b](const std::vector<std::string>& captions, const Tensor& noise) {
      const Tensor picture = at::linspace(-0.5, 0.5, 32).expand({3, 32, 32});
      std::vector<Tensor> images;
      for (size_t i = 0; i < captions.size(); ++i)
        images.push_back(picture + noise[static_cast<int64_t>(i)] * (captions[i] == "a" ? a : b));
      return at::stack(images);
    };
  };
  const Evaluation base = evaluator.evaluate_base(drawn(0.1, 0.02));
  EXPECT_EQ(base.diversity_kept(), 1);
  EXPECT_EQ(base.widest_prompt, "a");
  EXPECT_NEAR(base.widest_share, 25.0 / 26, 0.02);
  // The mean of the diversities is a quarter: it is all a's.
  const Evaluation now = evaluator.evaluate(drawn(0.05, 0.04));
  EXPECT_NEAR(now.diversity_kept(), 1, 0.02);
  EXPECT_NEAR(now.diversity_log.se.value(), std::log(4), 0.02);
  EXPECT_LT(now.diversity.mean, 0.4 * base.diversity.mean);
  EXPECT_EQ(now.to_json()["diversity_kept"], now.diversity_kept());
  EXPECT_FALSE(now.to_json().contains("diversity_log_ratio_right")) << "there is no judge";
}

// Eight images in batches of three, of which the second process draws the first.
TEST(Evaluator, RecallsWhatAnotherOneMeasuredOfTheBase) {
  EvalOptions options;
  options.images = 4;
  options.batch = 3;
  const auto reward = make_reward("colorfulness", {});
  const std::vector<Prompt> prompts{{"ghost"}, {"wave"}};
  const JudgePanel panel{{"jpeg", std::shared_ptr<const Reward>(make_reward("jpeg", {}))}};
  const auto evaluator = [&](int64_t images, const JudgePanel& judges) {
    EvalOptions o = options;
    o.images = images;
    return Evaluator(o, prompts, *reward, nullptr, nullptr, judges, {3, 32, 32});
  };
  int64_t drawn = 0;
  const auto model = [&drawn](double level) {
    return [level, &drawn](const std::vector<std::string>&, const Tensor& noise) {
      drawn += noise.size(0);
      return (level * noise).clamp(-1, 1);
    };
  };
  Evaluator first = evaluator(4, panel), second = evaluator(4, panel);
  const Json base = first.evaluate_base(model(0.4)).to_json();
  const TensorMap figures = first.base_figures();
  drawn = 0;
  const auto recalled = second.recall_base(figures, model(0.4));
  ASSERT_TRUE(recalled);
  EXPECT_EQ(drawn, 3);
  EXPECT_EQ(recalled->to_json(), base);
  EXPECT_EQ(second.evaluate(model(0.8)).to_json(), first.evaluate(model(0.8)).to_json());

  Evaluator other = evaluator(4, panel);
  EXPECT_FALSE(other.recall_base(figures, model(0.4001))) << "another model's images";
  EXPECT_FALSE(evaluator(4, {}).recall_base(figures, model(0.4))) << "a judge too many";
  EXPECT_FALSE(evaluator(5, panel).recall_base(figures, model(0.4))) << "too few images";
  TensorMap damaged = figures;
  damaged.erase("reference features");
  EXPECT_FALSE(other.recall_base(damaged, model(0.4)));
  EXPECT_THAT(testing::message_of([&] { other.evaluate(model(0.4)); }),
              HasSubstr("the base model must be evaluated first"));
}

TEST(LopsidedDiversity, IsSaidOfEightPromptsAndMore) {
  Evaluation base;
  base.diversity.n = 8;
  base.widest_prompt = "left-facing fist";
  base.widest_share = 0.67;
  EXPECT_THAT(lopsided_diversity(base),
              HasSubstr("the prompt 'left-facing fist' has 67 % of the base's diversity over 8"));
  base.widest_share = 0.3;
  EXPECT_EQ(lopsided_diversity(base), "");
  base.widest_share = 0.67;
  base.diversity.n = 7;
  EXPECT_EQ(lopsided_diversity(base), "");
}

// Eight images in three parts.
TEST(Evaluator, OfSeveralRanksGivesTheFiguresOfOneProcess) {
  const Json alone = evaluated("auto", 3).to_json();
  for (const bool in_step : {false, true}) {
    testing::on_threads(2, [&](const Group& group) {
      if (in_step) group.keep_step();
      EXPECT_EQ(evaluated("auto", 3, group).to_json(), alone);
    });
  }
}

TEST(Evaluator, DrawsThumbnailsBetweenRanks) {
  const std::vector<std::string> prompts{"a", "b", "c", "d", "e"};
  const auto drawn = [&](const Group& group) {
    return drawn_thumbnails(
        [](const std::vector<std::string>& captions, const Tensor& noise) {
          return noise.clamp(-1, 1) * static_cast<double>(captions.front()[0] - 'a' + 1) / 8;
        },
        prompts, 2, {3, 8, 8}, group);
  };
  const Tensor alone = drawn({});
  testing::on_threads(2, [&](const Group& group) { EXPECT_TRUE(at::equal(drawn(group), alone)); });
}

TEST(Evaluator, RefusesTooFewImagesBeforeItDrawsAny) {
  EvalOptions options;
  options.images = 3;
  const auto reward = make_reward("colorfulness", {});
  EXPECT_THAT(testing::message_of([&] {
                Evaluator(options, {{"ghost"}}, *reward, nullptr, nullptr, {}, {3, 32, 32});
              }),
              HasSubstr("expected eval.prompts times eval.images to be 4 at least, for distances "
                        "between sets, got 1 times 3"));
}

// A fall by any amount would else be reward hacking.
TEST(Evaluator, OfOnePromptHasNoErrorsAndNothingFallsBeyondChance) {
  EvalOptions options;
  options.images = 4;
  const auto reward = make_reward("colorfulness", {});
  Evaluator evaluator(options, {{"ghost"}}, *reward, /*judge=*/nullptr, nullptr,
                      {{"jpeg", std::shared_ptr<const Reward>(make_reward("jpeg", {}))}},
                      {3, 32, 32});
  const auto drawn = [&](double level) {
    return [level](const std::vector<std::string>&, const Tensor& noise) {
      return (level * noise).clamp(-1, 1);
    };
  };
  const Evaluation base = evaluator.evaluate_base(drawn(0.4)), now = evaluator.evaluate(drawn(0.8));
  EXPECT_FALSE(now.reward.se);
  EXPECT_FALSE(now.diversity.se);
  EXPECT_NE(now.panel.at("jpeg").change.mean, 0);
  const Json json = now.to_json();
  EXPECT_TRUE(json["reward"]["se"].is_null() && json["panel"]["jpeg"]["se"].is_null() &&
              json["panel"]["jpeg"]["change"]["se"].is_null())
      << json;
  Evaluation fell = now;
  fell.panel.at("jpeg").change = {-5, std::nullopt};
  EXPECT_TRUE(complaints(base, fell, 0).empty());
  fell.panel.at("jpeg").change = {-5, 1, 20};
  EXPECT_EQ(complaints(base, fell, 0).size(), 1u);
}

}  // namespace
}  // namespace vggflow
