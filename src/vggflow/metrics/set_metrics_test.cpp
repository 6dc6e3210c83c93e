#include "vggflow/metrics/set_metrics.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "vggflow/core/config.h"
#include "vggflow/eval/metrics_run.h"
#include "vggflow/io/files.h"
#include "vggflow/io/image_file.h"
#include "vggflow/report/set_sheet.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/ranks.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;
using ::testing::Not;
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
  Dual score(const Dual& images, const std::vector<std::string>& prompts) const override {
    fail("[level] only judges");
  }
};

FeatureNetworks networks() { return {std::make_shared<PixelFeatures>()}; }
RewardPanel panel() { return {{"level", std::make_shared<Level>()}}; }

// `prompts` prompts of `each` images around 0.5 + shift.
ImageSet random_set(uint64_t id, int64_t prompts, int64_t each, double shift = 0) {
  const Tensor images =
      (0.5 + shift + 0.1 * random_double({prompts * each, 3, 2, 2}, id)).clamp(0, 1).to(at::kFloat);
  std::vector<std::string> names;
  for (int64_t i = 0; i < prompts * each; ++i) names.push_back(fmt::format("prompt {}", i / each));
  return image_set_of(fmt::format("set {}", id), images, names);
}

MeasuredSet measured(const ImageSet& set) { return measure(set, networks(), panel(), 7); }

TEST(SetMetrics, OfSeveralRanksAreThoseOfOneProcess) {
  ImageSet set = random_set(1, 4, 5, /*shift=*/-0.35);
  set.pixels = [pixels = set.pixels](int64_t i) { return pixels(i % 18); };  // two come twice
  const MeasuredSet alone = measured(set);
  EXPECT_GT(alone.saturated, 0);
  testing::on_threads(3, [&](const Group& group) {
    const MeasuredSet shared = measure(set, networks(), panel(), 7, group);
    EXPECT_TRUE(at::equal(shared.features[0], alone.features[0]));
    EXPECT_TRUE(at::allclose(shared.scores[0].second, alone.scores[0].second, 0, 0,
                             /*equal_nan=*/true));
    EXPECT_EQ(shared.saturated, alone.saturated);
    EXPECT_EQ(shared.identical, alone.identical);
  });
}

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
  EXPECT_NEAR(by_prompt(c, "vendi score").values_b[2].second, vendi_score(fb.narrow(0, 12, 6)),
              1e-9);
  EXPECT_NEAR(by_prompt(c, "level").a.estimate.mean, fa.to(at::kDouble).mean().item<double>(),
              1e-6);
}

TEST(SetMetrics, PairChangesByPromptWhateverTheOrder) {
  const Tensor levels =
      at::tensor({0.2, 0.3, 0.6, 0.9}, at::kFloat).view({4, 1, 1, 1}).expand({4, 3, 2, 2});
  const ImageSet a = image_set_of("a", levels + 0.05, {"w", "x", "y", "only a"}),
                 b = image_set_of("b", levels.flip(0), {"only b", "y", "x", "w"});
  const SetComparison c = compare_sets(measured(a), measured(b), {}, networks(), {});
  const PromptMeasure& m = by_prompt(c, "level");
  ASSERT_TRUE(m.change);
  EXPECT_EQ(m.a.n, 4);
  EXPECT_EQ(m.change->n, 3);
  EXPECT_NEAR(m.change->estimate.mean, 0.05, 1e-6);
  EXPECT_NEAR(m.change->estimate.se.value(), 0, 1e-6);
  EXPECT_NEAR(m.change->interval.value().low, 0.05, 1e-6);
}

TEST(SetMetrics, MissingScoresAreNotZero) {
  const Tensor levels =
      at::tensor({0.05, 0.5, 0.05}, at::kFloat).view({3, 1, 1, 1}).expand({3, 3, 2, 2});
  const SetComparison c =
      compare_sets(measured(image_set_of("a", levels, {"x", "x", "y"})), {}, {}, networks(), {});
  EXPECT_EQ(by_prompt(c, "level").a.n, 1);  // y has no score at all
  EXPECT_NEAR(by_prompt(c, "level").a.estimate.mean, 0.5, 1e-6);
}

// What is drawn like the base lies at the floor, what is moved lies above; with halves the same
// holds for the matched distance.
TEST(SetMetrics, TheFloorIsTheBaseAgainstItself) {
  const auto b = measured(random_set(2, 4, 16)), again = measured(random_set(3, 4, 16));
  const auto same = measured(random_set(4, 4, 16)), moved = measured(random_set(5, 4, 16, 0.2));
  const SetComparison like = compare_sets(same, b, again, networks(), {}),
                      unlike = compare_sets(moved, b, again, networks(), {});
  EXPECT_EQ(*as_a_whole(like, "fd").floor, *as_a_whole(unlike, "fd").floor);
  EXPECT_LT(as_a_whole(like, "fd").value, 2 * *as_a_whole(like, "fd").floor);
  EXPECT_GT(as_a_whole(unlike, "fd").value, 4 * *as_a_whole(unlike, "fd").floor);
  EXPECT_FALSE(as_a_whole(like, "fd").matched);
  const SetComparison halves = compare_sets(moved, b, {}, networks(), {});
  EXPECT_GT(*as_a_whole(halves, "fd").floor,
            *as_a_whole(like, "fd").floor);  // fewer images, more bias
  EXPECT_GT(*as_a_whole(halves, "fd").matched, 2 * *as_a_whole(halves, "fd").floor);
  EXPECT_GT(*as_a_whole(halves, "fd").se, 0);
}

TEST(SetMetrics, ThePapersDistanceIsTheMeanOverPromptsAgainstTheBase) {
  const auto a = measured(random_set(1, 3, 8, 0.1)), b = measured(random_set(2, 3, 8)),
             again = measured(random_set(3, 3, 8));
  SetMetricOptions options;
  options.per_prompt_fd = true;
  const PromptMeasure m = by_prompt(compare_sets(a, b, again, networks(), options), "fd by prompt");
  double sum = 0, floor = 0;
  for (int64_t p = 0; p < 3; ++p) {
    sum +=
        frechet_distance(a.features[0].narrow(0, 8 * p, 8), b.features[0].narrow(0, 8 * p, 8)) / 3;
    floor +=
        frechet_distance(again.features[0].narrow(0, 8 * p, 8), b.features[0].narrow(0, 8 * p, 8)) /
        3;
  }
  EXPECT_NEAR(m.a.estimate.mean, sum, 1e-9);
  EXPECT_NEAR(m.b->estimate.mean, floor, 1e-9);
}

// Without a second set of the base the figure is still that of all images; halves are the floor
// alone.
TEST(SetMetrics, ThePapersDistanceIsOfAllImagesWithoutASecondSetOfTheBaseToo) {
  const auto a = measured(random_set(1, 3, 8, 0.1)), b = measured(random_set(2, 3, 8)),
             again = measured(random_set(3, 3, 8));
  SetMetricOptions options;
  options.per_prompt_fd = true;
  const SetComparison alone = compare_sets(a, b, {}, networks(), options),
                      with_base = compare_sets(a, b, again, networks(), options);
  EXPECT_EQ(by_prompt(alone, "fd by prompt").a.estimate.mean,
            by_prompt(with_base, "fd by prompt").a.estimate.mean);
  EXPECT_FALSE(by_prompt(alone, "fd by prompt").b);
  const PromptMeasure& halves = by_prompt(alone, "fd by prompt, halves");
  EXPECT_EQ(halves.a.n, 3);
  EXPECT_GT(halves.a.estimate.mean, by_prompt(alone, "fd by prompt").a.estimate.mean)
      << "fewer images, more bias";
  EXPECT_TRUE(halves.b && halves.change);
  EXPECT_THAT(message_of([&] { by_prompt(with_base, "fd by prompt, halves"); }),
              HasSubstr("no measure"));
}

ImageSet without_prompts(uint64_t id, int64_t images, double shift = 0) {
  ImageSet set = random_set(id, 1, images, shift);
  set.prompts.assign(set.prompts.size(), "");
  set.groups = set.prompts;
  return set;
}

// A flat folder: the images are the sample, and errors say so.
TEST(SetMetrics, WithoutPromptsImagesAreTheSample) {
  const ImageSet x = without_prompts(1, 40), y = without_prompts(2, 30, 0.1);
  const SetComparison c = compare_sets(measured(x), measured(y), {}, networks(), {});
  ASSERT_TRUE(c.over_images);
  EXPECT_FALSE(c.shared);
  std::vector<double> levels, others;
  for (int64_t i = 0; i < 40; ++i) levels.push_back(x.pixels(i).mean().item<double>());
  for (int64_t i = 0; i < 30; ++i) others.push_back(y.pixels(i).mean().item<double>());
  const PromptMeasure& level = by_prompt(c, "level");
  EXPECT_EQ(level.a.n, 40);
  EXPECT_NEAR(level.a.estimate.se.value(), *estimate(levels).se, 1e-7);
  EXPECT_LT(level.a.interval.value().low, level.a.estimate.mean);
  EXPECT_NEAR(level.change.value().estimate.mean, estimate(levels).mean - estimate(others).mean,
              1e-6);
  EXPECT_NEAR(level.change->estimate.se.value(),
              std::hypot(*estimate(levels).se, *estimate(others).se), 1e-7);
  EXPECT_LT(level.change->interval.value().high, 0);
  const PromptMeasure& diversity_of = by_prompt(c, "diversity");
  EXPECT_GT(diversity_of.a.estimate.se.value(), 0);
  EXPECT_FALSE(diversity_of.a.interval);
  for (const char* name : {"fd", "kid", "cmmd", "precision", "recall"})
    EXPECT_TRUE(as_a_whole(c, name).se) << name;
  EXPECT_EQ(c.to_json()["unit"], "image");
  EXPECT_THAT(comparison_sheet(c, x, y, {}),
              AllOf(HasSubstr("Means over images"), HasSubstr("a jackknife over images"),
                    Not(HasSubstr("± nan")), Not(HasSubstr(">nan"))));
}

TEST(SetMetrics, OnePromptHasNoError) {
  const ImageSet x = random_set(1, 1, 8), y = random_set(2, 1, 8, 0.1);
  const SetComparison c = compare_sets(measured(x), measured(y), {}, networks(), {});
  EXPECT_FALSE(c.over_images);
  const PromptMeasure& level = by_prompt(c, "level");
  EXPECT_FALSE(level.a.estimate.se);
  EXPECT_FALSE(level.a.interval);
  EXPECT_TRUE(level.change);
  const Json json = c.to_json()["by_prompt"][0]["a"];
  EXPECT_TRUE(json["se"].is_null() && json["low"].is_null() && json["high"].is_null()) << json;
  EXPECT_THAT(comparison_sheet(c, x, y, {}),
              AllOf(HasSubstr("One prompt: there are no errors"), Not(HasSubstr("± 0 ")),
                    Not(HasSubstr("± nan")), Not(HasSubstr(">nan"))));
}

// `set` with its prompts renamed from "prompt i" to "other i" from the `from`-th on.
ImageSet renamed(ImageSet set, int64_t from) {
  for (auto* names : {&set.prompts, &set.groups}) {
    for (std::string& name : *names) {
      if (std::stoll(name.substr(7)) >= from) name.replace(0, 6, "other");
    }
  }
  return set;
}

TEST(SetMetrics, SayHowManyPromptsTheSetsShareAndGiveNoErrorWhereNone) {
  const auto a = measured(random_set(1, 6, 4)), b = measured(random_set(2, 6, 4));
  const auto compared = [&](const MeasuredSet& with, std::optional<MeasuredSet> base = {}) {
    return compare_sets(a, with, std::move(base), networks(), {});
  };
  const SetComparison all = compared(b), some = compared(measured(renamed(random_set(2, 6, 4), 2))),
                      none = compared(measured(renamed(random_set(2, 6, 4), 0)));
  EXPECT_EQ(all.shared, 6);
  EXPECT_TRUE(all.warnings.empty());
  EXPECT_TRUE(as_a_whole(all, "fd").se);
  EXPECT_EQ(some.shared, 2);
  EXPECT_THAT(some.warnings, ElementsAre(HasSubstr("only 2 of their 6 and 6 prompts in common")));
  EXPECT_EQ(none.shared, 0);
  EXPECT_THAT(none.warnings, ElementsAre(HasSubstr("none of their 6 and 6 prompts in common")));
  EXPECT_FALSE(by_prompt(none, "level").change);
  for (const SetMeasure& m : none.as_a_whole) EXPECT_FALSE(m.se) << m.name;
  EXPECT_EQ(none.to_json()["shared_prompts"], 0);
  const SetComparison foreign = compared(b, measured(renamed(random_set(3, 6, 4), 0)));
  EXPECT_THAT(foreign.warnings,
              ElementsAre(HasSubstr("the second set of the base has 0 of its 6 prompts in common "
                                    "with B's 6: their distance is no floor")));
  SetMetricOptions options;
  options.per_prompt_fd = true;
  EXPECT_THAT(message_of([&] {
                compare_sets(a, measured(renamed(random_set(2, 6, 4), 0)), {}, networks(), options);
              }),
              HasSubstr("per_prompt_fd compares images of the same prompt, and A and B have none "
                        "in common: 'prompt 0' and 'other 0'"));
  EXPECT_THAT(message_of([&] {
                compare_sets(measured(random_set(1, 6, 1)), measured(random_set(2, 6, 1)), {},
                             networks(), options);
              }),
              HasSubstr("expected prompts with at least 2 images in both sets"));
}

// The reference code divides CLIP's by n (n - 1): twice ours.
TEST(SetMetrics, SayWhatPublishedClipDiversitiesAreMultiplesOf) {
  class Clip : public PixelFeatures {
    std::string name() const override { return "clip-vit-l14"; }
  };
  const ImageSet set = random_set(1, 3, 4);
  const FeatureNetworks both{std::make_shared<PixelFeatures>(), std::make_shared<Clip>()};
  const SetComparison c = compare_sets(measure(set, both, {}, 7), {}, {}, both, {});
  const Json json = c.to_json()["by_prompt"];
  for (const Json& m : json)
    EXPECT_EQ(m["published_factor"],
              m["name"] == "diversity" && m["network"] == "clip-vit-l14" ? 2 : 1)
        << m;
  EXPECT_THAT(comparison_sheet(c, set, {}, {}),
              HasSubstr(fmt::format("as published: 2 times ours</td><td>3</td><td>{:.4g}</td>",
                                    2 * by_prompt(c, "diversity").a.estimate.mean)));
}

TEST(SetMetrics, LeaveOutWhatTooFewImagesCannotTell) {
  const SetComparison c = compare_sets(measured(random_set(1, 3, 1)), measured(random_set(2, 3, 1)),
                                       {}, networks(), {});
  EXPECT_THAT(message_of([&] { by_prompt(c, "diversity"); }), HasSubstr("no measure"));
  EXPECT_THAT(message_of([&] { as_a_whole(c, "recall"); }), HasSubstr("no measure"));
  EXPECT_FALSE(as_a_whole(c, "fd").se);
  EXPECT_FALSE(as_a_whole(c, "fd").floor);
}

// The usual set of FID: a prompt each. Halves are then of prompts.
TEST(SetMetrics, HaveAFloorWithOneImageAPromptToo) {
  const SetComparison c = compare_sets(measured(random_set(1, 8, 1)), measured(random_set(2, 8, 1)),
                                       {}, networks(), {});
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
  EXPECT_THAT(comparison_sheet(c, random_set(1, 2, 2), {}, {}),
              HasSubstr("2 have no score of judge"));
}

TEST(SetMetrics, CountImagesThatRepeatOneOfTheirPrompt) {
  const Tensor x = random_set(1, 1, 2).pixels(0).unsqueeze(0);
  EXPECT_EQ(measured(image_set_of("a", x.repeat({4, 1, 1, 1}), {"x", "x", "y", "x"})).identical, 2);
  EXPECT_EQ(measured(random_set(1, 3, 6)).identical, 0);
}

TEST(SetMetrics, TheSheetAndTheJsonHoldFiguresNetworkAndFloorAndEscapePrompts) {
  const Tensor x = random_double({4, 3, 2, 2}, 1).abs().clamp(0, 1).to(at::kFloat);
  const ImageSet a = image_set_of("A<1>", at::cat({x, x}),
                                  {"<b>", "<b>", "<b>", "<b>", "<b>", "<b>", "<b>", "<b>"});
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

TEST(SetMetrics, SayThatNoPromptIsATrainingPrompt) {
  EXPECT_THAT(overlap_html(prompt_overlap({"a"}, {"b"})),
              HasSubstr("None of the 1 prompts is among the 1 training prompts"));
}

// The whole job with the committed judge on folders, as `vggflow metrics` does it.
TEST(SetMetrics, AJobOverFoldersWritesItsReport) {
  const TemporaryFolder folder;
  for (const char* set : {"a", "b"}) {
    std::filesystem::create_directories(folder / set);
    for (int i = 0; i < 8; ++i) {
      const Tensor x = (0.5 + 0.2 * random_double({3, 40, 40}, static_cast<uint64_t>(set[0]) * 100 +
                                                                   static_cast<uint64_t>(i)))
                           .clamp(0, 1);
      write_png(folder / set / fmt::format("{}.png", i), to_image(x),
                {{"prompt", i < 4 ? "red heart" : "ghost"}});
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
  write_text(folder / "a" / "ninth.webp", "not read");
  ::testing::internal::CaptureStderr();
  run_metrics(config);
  EXPECT_THAT(
      ::testing::internal::GetCapturedStderr(),
      AllOf(HasSubstr(
                "1 file is an image of a kind that is not read (expected PNG or JPEG): ninth.webp"),
            Not(HasSubstr("do not look like"))));
  EXPECT_EQ(Json::parse(read_text(folder / "out" / "metrics.json"))["a"]["unread"].size(), 1u);
  EXPECT_THAT(read_text(folder / "out" / "metrics.html"), HasSubstr("ninth.webp"));
  config.features = config.panel = {};
  EXPECT_THAT(message_of([&] { run_metrics(config); }),
              HasSubstr("expected features=[...] or panel=[...], got neither"));
  config.features = {"inception"};
  EXPECT_THAT(message_of([&] { run_metrics(config); }),
              HasSubstr("unknown network 'inception'; known are"));
  config.a = {};
  EXPECT_THAT(message_of([&] { run_metrics(config); }), HasSubstr("expected a=FOLDER"));
}

// Photographs by the emoji's judge are a mistake that no figure shows.
TEST(SetMetrics, WarnWhereTheEmojisNetworksLookAtOtherImages) {
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder / "photos");
  for (int i = 0; i < 4; ++i)
    write_png(folder / "photos" / fmt::format("{}.png", i),
              to_image(random_double({3, 40, 40}, static_cast<uint64_t>(i)).abs().clamp(0, 1)),
              {{"prompt", "a photo"}});
  MetricsConfig config;
  config.a = {(folder / "photos").string()};
  config.out = (folder / "out").string();
  config.judge = std::string(VGGFLOW_SOURCE_DIR) + "/models/judge";
  run_metrics(config);
  EXPECT_THAT(
      Json::parse(read_text(folder / "out" / "metrics.json"))["warnings"][0].get<std::string>(),
      HasSubstr("the features of judge are of emoji at 32 x 32 pixels"));
  config.features = {"pixels-8x8"};
  run_metrics(config);
  EXPECT_TRUE(Json::parse(read_text(folder / "out" / "metrics.json"))["warnings"].empty());
  config.a = {(folder / "photos" / "0.png").string()};
  EXPECT_THAT(message_of([&] { run_metrics(config); }),
              HasSubstr("nothing can be told of 1 image of"));
}

TEST(SetMetrics, ThePapersPresetAsksForItsNetworks) {
  MetricsConfig config;
  load_yaml(fields_of(config), std::string(VGGFLOW_SOURCE_DIR) + "/configs/metrics/paper.yaml");
  EXPECT_EQ(config.metrics.images_per_prompt, 16);
  EXPECT_TRUE(config.metrics.per_prompt_fd);
  config.a = {"aligned"};
  config.b = {"base"};
  EXPECT_THAT(message_of([&] { run_metrics(config); }),
              HasSubstr("pass \"features=[dreamsim=PATH, clip=PATH, inception-v3=PATH]\""));
  apply_override(fields_of(config), "features=[dreamsim=d, clip=c, inception-v3=i]");
  EXPECT_THAT(message_of([&] { run_metrics(config); }), HasSubstr("there is no aligned"));
}

}  // namespace
}  // namespace vggflow
