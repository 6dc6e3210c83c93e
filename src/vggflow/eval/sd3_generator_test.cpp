// Whole sampling runs of a tiny Stable Diffusion 3 from the same noise as diffusers'
// StableDiffusion3Pipeline. The values are those of tools/reference/sd3_pipeline_reference.py.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "vggflow/eval/metrics_run.h"
#include "vggflow/eval/run.h"
#include "vggflow/eval/sweep.h"
#include "vggflow/io/files.h"
#include "vggflow/io/image.h"
#include "vggflow/io/safetensors.h"
#include "vggflow/ops/random_tensor.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/reference.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::message_of;
using testing::scaled_error;

const std::vector<std::string> kPrompts{"a photo of a cat", "it is 42 dogs"};

fs::path tiny_folder() { return testing::models_testdata("sd3_tiny"); }

GeneratorOptions tiny_options() {
  GeneratorOptions o;
  o.flow.model = tiny_folder().string();
  o.flow.precision = Precision::kFp32;
  o.flow.sd3.t5_tokens = 20;
  return o;
}

struct Case {
  std::string name;
  double guidance;
  std::string negative;
  bool t5;
  int64_t width;
};

class Sd3Pipeline : public ::testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Cases, Sd3Pipeline,
                         ::testing::Values(Case{"guided", 4.5, "a dog", true, 16},
                                           Case{"wide", 1.0, "", true, 24},
                                           Case{"without_t5", 7.0, "", false, 16}),
                         [](const auto& tested) { return tested.param.name; });

TEST_P(Sd3Pipeline, TwentyStepsEqualDiffusersFromTheSameNoise) {
  const Case& c = GetParam();
  const SafetensorsFile reference(tiny_folder() / "pipeline.safetensors");
  GeneratorOptions o = tiny_options();
  o.guidance = c.guidance;
  o.flow.sd3.negative_prompt = c.negative;
  o.flow.sd3.t5 = c.t5;
  o.flow.sd3.height = 16;
  o.flow.sd3.width = c.width;
  const Generator generator(o);
  const Tensor sigmas = reference.load(c.name + ".sigmas");
  ASSERT_EQ(std::ssize(generator.times()), sigmas.numel());
  EXPECT_LT(scaled_error(1 - at::tensor(generator.times(), at::kFloat), sigmas), 1e-6);
  const Tensor noise = reference.load(c.name + ".noise");
  const Tensor latents = generator.latents(kPrompts, noise, /*aligned=*/false);
  // Twenty steps add up what one product rounds: 1.01e-4 was seen on an AMD EPYC (the pixels are
  // those of commit 9001bc5), less than 1e-4 on an Intel Xeon.
  EXPECT_LT(scaled_error(latents, reference.load(c.name + ".latents")), 1.5e-4);
  const Tensor images =
      ((generator.generate(kPrompts, noise, /*aligned=*/false) + 1) / 2).clamp(0, 1);
  EXPECT_LT(scaled_error(images, reference.load(c.name + ".images")), 1e-4);
}

TEST(Sd3Sampling, AnImageDependsOnItsSeedAndPromptAlone) {
  const testing::TemporaryFolder folder;
  SampleConfig c;
  c.generator = tiny_options();
  c.generator.flow.sd3.height = c.generator.flow.sd3.width = 16;
  c.generator.flow.sd3.negative_prompt = "a dog";
  c.generator.time_grid.steps = 3;
  c.prompts = kPrompts;
  c.images = 2;
  c.seed = 5;
  c.out = (folder / "together").string();
  sample_images(c);
  c.prompts = {kPrompts[1]};
  c.images = 1;
  c.seed = 0;
  c.seeds = {6};
  c.batch = 1;
  c.out = (folder / "alone").string();
  sample_images(c);
  EXPECT_EQ(read_png(folder / "together/00003.png").rgb, read_png(folder / "alone/00000.png").rgb);
  EXPECT_NE(read_png(folder / "together/00002.png").rgb, read_png(folder / "alone/00000.png").rgb);
  const std::string bytes = read_text(folder / "alone/00000.png");
  EXPECT_THAT(bytes, HasSubstr("it is 42 dogs\nNegative prompt: a dog\nSteps: 3, Sampler: Euler, "
                               "CFG scale: 3, Seed: 6, Size: 16x16, Model: sd3_tiny"));
}

TEST(Sd3Sampling, RefusesToGuessPrompts) {
  SampleConfig c;
  c.generator = tiny_options();
  EXPECT_THAT(message_of([&] { sample_images(c); }),
              HasSubstr("expected prompts: pass --prompts FILE"));
}

TEST(Sd3Sampling, RefusesSeedsThatAreNoneAndSettingsThatContradictThem) {
  const auto refusal = [](const std::vector<int64_t>& seeds, int64_t images, int64_t seed) {
    SampleConfig c;
    c.generator.flow.model = "absent";
    c.seeds = seeds;
    c.images = images;
    c.seed = seed;
    return message_of([&] { sample_images(c); });
  };
  EXPECT_THAT(refusal({1, -2}, 1, 0), HasSubstr("[sample] expected seeds of at least 0, got -2"));
  EXPECT_THAT(refusal({1, 2}, 3, 0), HasSubstr("[sample] seeds=1,2 asks for 2 images per prompt "
                                               "and images for 3: leave one of them out"));
  EXPECT_THAT(
      refusal({1, 2}, 2, 5),
      HasSubstr("[sample] seeds=1,2 begins with another seed than seed=5: leave one of them out"));
  for (const int64_t images : {1, 2})
    EXPECT_THAT(refusal({1, 2}, images, 1), HasSubstr("'absent'")) << "it comes to the model";
}

// At 32 x 32 pixels the emoji's judge would take the images.
TEST(Sd3Evaluation, AsksForPromptsBeforeAnythingIsDrawn) {
  const testing::TemporaryFolder folder;
  const char* message =
      "since the emoji's captions and judge are the nano model's alone: pass prompts.train=FILE to "
      "train on and prompts.eval=FILE to evaluate on (one prompt per line), "
      "or prompts.classes=[cat, dog]";
  EvalConfig c;
  c.generator = tiny_options();
  c.generator.flow.sd3.height = c.generator.flow.sd3.width = 32;
  c.reward = "colorfulness";
  EXPECT_THAT(message_of([&] { run_eval(c); }), HasSubstr(message));
  SweepConfig sweep;
  sweep.eval = c;
  sweep.eval.generator.lora = "absent.safetensors";
  sweep.eval.out = (folder / "sweep").string();
  EXPECT_THAT(message_of([&] { run_sweep(sweep); }), HasSubstr(message));
  MetricsConfig metrics;
  metrics.a = {tiny_folder().string()};
  metrics.out = (folder / "metrics").string();
  EXPECT_THAT(message_of([&] { run_metrics(metrics); }), HasSubstr(message));
  metrics.a = {"base"};
  metrics.models.generator = tiny_options();
  EXPECT_THAT(message_of([&] { run_metrics(metrics); }), HasSubstr(message));
  EXPECT_FALSE(fs::exists(folder / "sweep") || fs::exists(folder / "metrics"));
}

TEST(Sd3Evaluation, DoesNotDependOnTheBatch) {
  const testing::TemporaryFolder folder;
  write_text(folder / "prompts.txt", "a photo of a cat\nit is 42 dogs\n");
  const auto result = [&](int64_t batch) {
    EvalConfig c;
    c.generator = tiny_options();
    c.generator.flow.sd3.height = c.generator.flow.sd3.width = 16;
    c.generator.time_grid.steps = 3;
    c.prompts.eval = (folder / "prompts.txt").string();
    c.reward = "colorfulness";
    c.eval.prompts = 2;
    c.eval.images = 3;
    c.eval.batch = batch;
    c.out = (folder / "result.json").string();
    run_eval(c);
    const Json base = Json::parse(read_text(folder / "result.json")).at("base");
    return std::pair{base.at("reward").at("mean").get<double>(),
                     base.at("diversity").at("mean").get<double>()};
  };
  const auto [reward, diversity] = result(0);
  for (const int64_t batch : {1, 4}) {
    const auto [other_reward, other_diversity] = result(batch);
    EXPECT_NEAR(other_reward, reward, 1e-5 * std::abs(reward)) << batch;
    EXPECT_NEAR(other_diversity, diversity, 1e-5 * diversity) << batch;
  }
}

TEST(Sd3Sampling, ABatchOfZeroIsChosenByTheSizeOfLatents) {
  EXPECT_EQ(images_at_once(0, {3, 32, 32}), 64);
  EXPECT_EQ(images_at_once(0, {3, 256, 256}), 64);
  EXPECT_EQ(images_at_once(0, {16, 8, 8}), 64);
  EXPECT_EQ(images_at_once(0, {16, 16, 16}), 64);
  EXPECT_EQ(images_at_once(0, {16, 32, 32}), 16);
  EXPECT_EQ(images_at_once(0, {16, 64, 64}), 4);
  EXPECT_EQ(images_at_once(0, {16, 128, 128}), 1);
  EXPECT_EQ(images_at_once(0, {16, 192, 192}), 1);
  EXPECT_EQ(images_at_once(5, {16, 128, 128}), 5);
}

TEST(Sd3Sampling, OnlyNanoWithoutADecoderDrawsEmoji) {
  ModelOptions o;
  o.model = std::string(VGGFLOW_SOURCE_DIR) + "/models/nano";
  EXPECT_TRUE(has_own_prompts(o));
  EXPECT_FALSE(has_own_prompts(tiny_options().flow));
}

TEST(Sd3Sampling, ImagesOfAKnownSizeAreRefusedWhereTheyDoNotFitThePatches) {
  GeneratorOptions o = tiny_options();
  o.flow.sd3.height = 18;
  EXPECT_THAT(message_of([&] { Generator g(o); }),
              HasSubstr("expected height and width in multiples of 4 up to 48, got 18"));
}

}  // namespace
}  // namespace vggflow
