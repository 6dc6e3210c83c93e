#include "vggflow/eval/set_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include <cmath>

#include "vggflow/eval/metrics_run.h"
#include "vggflow/eval/set_sheet.h"
#include "vggflow/io/files.h"
#include "vggflow/io/image_file.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using testing::message_of;
using testing::random_double;
using testing::TemporaryFolder;

// Features are the pixels themselves.
class PixelFeatures : public FeatureNetwork {
 public:
  Tensor features(const Tensor& images) const override { return images.flatten(1); }
  std::string name() const override { return "pixels"; }
  std::string weights_hash() const override { return "00ff"; }
};

// The mean level; no score for images darker than 0.1.
class Level : public Reward {
 public:
  Tensor score(const Tensor& images, const std::vector<std::string>& prompts) const override {
    const Tensor level = images.mean({1, 2, 3});
    return at::where(level < 0.1, at::full_like(level, std::nan("")), level);
  }
  Dual score(const Dual& images, const std::vector<std::string>& prompts) const override { fail("[level] only judges"); }
};

FeatureNetworks networks() { return {std::make_shared<PixelFeatures>()}; }
RewardPanel panel() { return {{"level", std::make_shared<Level>()}}; }

// `prompts` prompts of `each` images around 0.5 + shift.
ImageSet random_set(uint64_t id, int64_t prompts, int64_t each, double shift = 0) {
  const Tensor images = (0.5 + shift + 0.1 * random_double({prompts * each, 3, 2, 2}, id)).clamp(0, 1).to(at::kFloat);
  std::vector<std::string> names;
  for (int64_t i = 0; i < prompts * each; ++i) names.push_back(fmt::format("prompt {}", i / each));
  return image_set_of(fmt::format("set {}", id), images, names);
}

MeasuredSet measured(const ImageSet& set) { return measure(set, networks(), panel(), 7); }

const PromptMeasure& by_prompt(const SetComparison& c, const std::string& name) {
  for (const PromptMeasure& m : c.by_prompt) {
    if (m.name == name) return m;
  }
  fail("no measure {}", name);
}

const SetMeasure& as_a_whole(const SetComparison& c, const std::string& name) {
  for (const SetMeasure& m : c.as_a_whole) {
    if (m.name == name) return m;
  }
  fail("no measure {}", name);
}

TEST(SetMetrics, AreTheMetricsOfTheFeaturesWhateverTheBatch) {
  const ImageSet a = random_set(1, 3, 6), b = random_set(2, 3, 6, 0.1);
  const SetComparison c = compare_sets(measured(a), measured(b), {}, networks(), {});
  std::vector<Tensor> pixels_a, pixels_b;
  for (int64_t i = 0; i < 18; ++i) {
    pixels_a.push_back(a.pixels(i).flatten());
    pixels_b.push_back(b.pixels(i).flatten());
  }
  const Tensor fa = at::stack(pixels_a), fb = at::stack(pixels_b);
  EXPECT_NEAR(as_a_whole(c, "fd").value, frechet_distance(fa, fb), 1e-9);
  EXPECT_NEAR(as_a_whole(c, "cmmd").value, cmmd(fa, fb), 1e-9);
  EXPECT_NEAR(as_a_whole(c, "kid").value, kernel_distance(fa, fb, 0, 100, 1000).mean, 1e-9);
  EXPECT_NEAR(as_a_whole(c, "recall").value, precision_recall(fa, fb).recall, 1e-9);
  EXPECT_NEAR(by_prompt(c, "diversity").values_a[1].second, diversity(fa.narrow(0, 6, 6)), 1e-9);
  EXPECT_NEAR(by_prompt(c, "vendi score").values_b[2].second, vendi_score(fb.narrow(0, 12, 6)), 1e-9);
  EXPECT_NEAR(by_prompt(c, "level").a.estimate.mean, fa.to(at::kDouble).mean().item<double>(), 1e-6);
}

TEST(SetMetrics, PairChangesByPromptWhateverTheOrder) {
  const Tensor levels = at::tensor({0.2, 0.3, 0.6, 0.9}, at::kFloat).view({4, 1, 1, 1}).expand({4, 3, 2, 2});
  const ImageSet a = image_set_of("a", levels + 0.05, {"w", "x", "y", "only a"}), b = image_set_of("b", levels.flip(0), {"only b", "y", "x", "w"});
  const SetComparison c = compare_sets(measured(a), measured(b), {}, networks(), {});
  const PromptMeasure& m = by_prompt(c, "level");
  ASSERT_TRUE(m.change);
  EXPECT_EQ(m.a.n, 4);
  EXPECT_EQ(m.change->n, 3);
  EXPECT_NEAR(m.change->estimate.mean, 0.05, 1e-6);
  EXPECT_NEAR(m.change->estimate.se, 0, 1e-6);
  EXPECT_NEAR(m.change->interval.low, 0.05, 1e-6);
}

TEST(SetMetrics, MissingScoresAreNotZero) {
  const Tensor levels = at::tensor({0.05, 0.5, 0.05}, at::kFloat).view({3, 1, 1, 1}).expand({3, 3, 2, 2});
  const SetComparison c = compare_sets(measured(image_set_of("a", levels, {"x", "x", "y"})), {}, {}, networks(), {});
  EXPECT_EQ(by_prompt(c, "level").a.n, 1);  // y has no score at all
  EXPECT_NEAR(by_prompt(c, "level").a.estimate.mean, 0.5, 1e-6);
}

// What is drawn like the base lies at the floor, what is moved lies above; with halves the same holds for the matched distance.
TEST(SetMetrics, TheFloorIsTheBaseAgainstItself) {
  const auto b = measured(random_set(2, 4, 16)), again = measured(random_set(3, 4, 16));
  const auto same = measured(random_set(4, 4, 16)), moved = measured(random_set(5, 4, 16, 0.2));
  const SetComparison like = compare_sets(same, b, again, networks(), {}), unlike = compare_sets(moved, b, again, networks(), {});
  EXPECT_EQ(*as_a_whole(like, "fd").floor, *as_a_whole(unlike, "fd").floor);
  EXPECT_LT(as_a_whole(like, "fd").value, 2 * *as_a_whole(like, "fd").floor);
  EXPECT_GT(as_a_whole(unlike, "fd").value, 4 * *as_a_whole(unlike, "fd").floor);
  EXPECT_FALSE(as_a_whole(like, "fd").matched);
  const SetComparison halves = compare_sets(moved, b, {}, networks(), {});
  EXPECT_GT(*as_a_whole(halves, "fd").floor, *as_a_whole(like, "fd").floor);  // fewer images, more bias
  EXPECT_GT(*as_a_whole(halves, "fd").matched, 2 * *as_a_whole(halves, "fd").floor);
  EXPECT_GT(*as_a_whole(halves, "fd").se, 0);
}

TEST(SetMetrics, ThePapersDistanceIsTheMeanOverPromptsAgainstTheBase) {
  const auto a = measured(random_set(1, 3, 8, 0.1)), b = measured(random_set(2, 3, 8)), again = measured(random_set(3, 3, 8));
  SetMetricOptions options;
  options.per_prompt_fd = true;
  const PromptMeasure m = by_prompt(compare_sets(a, b, again, networks(), options), "fd by prompt");
  double sum = 0, floor = 0;
  for (int64_t p = 0; p < 3; ++p) {
    sum += frechet_distance(a.features[0].narrow(0, 8 * p, 8), b.features[0].narrow(0, 8 * p, 8)) / 3;
    floor += frechet_distance(again.features[0].narrow(0, 8 * p, 8), b.features[0].narrow(0, 8 * p, 8)) / 3;
  }
  EXPECT_NEAR(m.a.estimate.mean, sum, 1e-9);
  EXPECT_NEAR(m.b->estimate.mean, floor, 1e-9);
  EXPECT_EQ(by_prompt(compare_sets(a, b, {}, networks(), options), "fd by prompt, halves").a.n, 3);
}

TEST(SetMetrics, LeaveOutWhatTooFewImagesCannotTell) {
  const SetComparison c = compare_sets(measured(random_set(1, 3, 1)), measured(random_set(2, 3, 1)), {}, networks(), {});
  EXPECT_THAT(message_of([&] { by_prompt(c, "diversity"); }), HasSubstr("no measure"));
  EXPECT_THAT(message_of([&] { as_a_whole(c, "recall"); }), HasSubstr("no measure"));
  EXPECT_FALSE(as_a_whole(c, "fd").se);
  EXPECT_FALSE(as_a_whole(c, "fd").floor);
}

// The usual set of FID: a prompt each. Halves are then of prompts.
TEST(SetMetrics, HaveAFloorWithOneImageAPromptToo) {
  const SetComparison c = compare_sets(measured(random_set(1, 8, 1)), measured(random_set(2, 8, 1)), {}, networks(), {});
  EXPECT_GT(as_a_whole(c, "fd").floor.value(), 0);
  EXPECT_GT(as_a_whole(c, "fd").matched.value(), 0);
}

TEST(SetMetrics, CountAndNameWhatHasNoScore) {
  MeasuredSet set = measured(random_set(1, 2, 2));
  set.scores = {{"judge", at::tensor({1.0, NAN, 3.0, NAN})}, {"other", at::ones({4})}};
  EXPECT_THAT(set.unscored(), ::testing::ElementsAre(::testing::Pair("judge", 2)));
  const SetComparison c = compare_sets(set, {}, {}, networks(), {});
  EXPECT_DOUBLE_EQ(by_prompt(c, "judge").a.estimate.mean, 2);
  EXPECT_EQ(c.to_json()["a"]["unscored"][0][1], 2);
  EXPECT_THAT(comparison_sheet(c, random_set(1, 2, 2), {}, {}), HasSubstr("2 have no score of judge"));
}

TEST(SetMetrics, CountImagesThatRepeatOneOfTheirPrompt) {
  const Tensor x = random_set(1, 1, 2).pixels(0).unsqueeze(0);
  EXPECT_EQ(measured(image_set_of("a", x.repeat({4, 1, 1, 1}), {"x", "x", "y", "x"})).identical, 2);
  EXPECT_EQ(measured(random_set(1, 3, 6)).identical, 0);
}

TEST(SetMetrics, TheSheetAndTheJsonHoldFiguresNetworkAndFloorAndEscapePrompts) {
  const Tensor x = random_double({4, 3, 2, 2}, 1).abs().clamp(0, 1).to(at::kFloat);
  const ImageSet a = image_set_of("A<1>", at::cat({x, x}), {"<b>", "<b>", "<b>", "<b>", "<b>", "<b>", "<b>", "<b>"});
  const SetComparison c = compare_sets(measured(a), measured(a), {}, networks(), {});
  const PromptOverlap overlap = prompt_overlap({"<b>"}, {"<b>"});
  const std::string page = comparison_sheet(c, a, a, overlap);
  EXPECT_THAT(page, HasSubstr("A&lt;1&gt;, 8 images of 1 prompts"));
  EXPECT_THAT(page, HasSubstr("4 of 8 images of set A repeat another image"));
  EXPECT_THAT(page, HasSubstr("00ff"));
  EXPECT_THAT(page, HasSubstr("1 of 1 prompts are among the 1 training prompts: 1 to the letter"));
  EXPECT_THAT(page, Not(HasSubstr("<figcaption><b>")));
  const Json json = c.to_json();
  EXPECT_EQ(json["networks"][0]["weights"], "00ff");
  EXPECT_EQ(json["by_prompt"][0]["name"], "level");
  EXPECT_TRUE(json["as_a_whole"][0]["se"].is_null());  // one prompt
  EXPECT_TRUE(json["as_a_whole"][0]["floor"].is_number());
}

TEST(SetMetrics, AuditsSayHowMuchOfABatchIsItsOwn) {
  EXPECT_THAT(audit_html(audit_batch({"x", "x", "y", "y"}, {1, 1, 2, 2})), HasSubstr("4 samples are only 2 different pairs of prompt and noise: the effective batch is 50 %"));
  EXPECT_THAT(audit_html(audit_batch({"x", "x"}, {1, 2})), HasSubstr("All 2 pairs of prompt and noise are different (1 prompts)"));
  EXPECT_EQ(audit_json(audit_batch({"x", "x"}, {1, 1}))["unique_pairs"], 1);
  EXPECT_THAT(overlap_html(prompt_overlap({"a"}, {"b"})), HasSubstr("None of the 1 prompts is among the 1 training prompts"));
}

// The whole job with the committed judge on folders, as `vggflow metrics` does it.
TEST(SetMetrics, AJobOverFoldersWritesItsReport) {
  const TemporaryFolder folder;
  for (const char* set : {"a", "b"}) {
    std::filesystem::create_directories(folder / set);
    for (int i = 0; i < 8; ++i) {
      const Tensor x = (0.5 + 0.2 * random_double({3, 40, 40}, static_cast<uint64_t>(set[0]) * 100 + static_cast<uint64_t>(i))).clamp(0, 1);
      write_png(folder / set / fmt::format("{}.png", i), to_image(x), {{"prompt", i < 4 ? "red heart" : "ghost"}});
    }
  }
  MetricsConfig config;
  config.a = {(folder / "a").string()};
  config.b = {(folder / "b").string()};
  config.out = (folder / "out").string();
  config.judge = std::string(VGGFLOW_SOURCE_DIR) + "/models/judge";
  config.panel = {"colorfulness"};
  config.metrics.images_per_prompt = 4;
  run_metrics(config);
  const Json json = Json::parse(read_text(folder / "out" / "metrics.json"));
  EXPECT_EQ(json["a"]["images"], 8);
  EXPECT_EQ(json["networks"][0]["name"], "judge");
  EXPECT_EQ(json["by_prompt"][0]["values_a"].size(), 2u);
  EXPECT_THAT(read_text(folder / "out" / "metrics.html"), HasSubstr("Distance of A to B"));
  config.features = {"inception"};
  EXPECT_THAT(message_of([&] { run_metrics(config); }), HasSubstr("unknown network 'inception'; known are"));
  config.a = {};
  EXPECT_THAT(message_of([&] { run_metrics(config); }), HasSubstr("expected a=FOLDER"));
}

}  // namespace
}  // namespace vggflow
