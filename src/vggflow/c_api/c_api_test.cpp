// The C interface on tiny random models: images, scores and runs are those of the libraries, and
// whatever a caller does wrong is an error with words.
#include "vggflow/c_api.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/DefaultDtype.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <csignal>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "vggflow/core/config.h"
#include "vggflow/eval/run.h"
#include "vggflow/io/files.h"
#include "vggflow/io/image.h"
#include "vggflow/rewards/reward.h"
#include "vggflow/train/align_fixture_test.h"
#include "vggflow/train/checkpoint.h"

extern "C" uint32_t abi_as_c_sees_it(void);

namespace vggflow::c_api {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::lines_of;
using testing::models;
using testing::tiny_config;

struct Texts {
  explicit Texts(std::vector<std::string> given) : texts(std::move(given)) {
    for (const std::string& t : texts) pointers.push_back(t.c_str());
  }
  const char* const* data() const { return pointers.data(); }
  size_t size() const { return pointers.size(); }
  std::vector<std::string> texts;
  std::vector<const char*> pointers;
};

std::vector<std::string> model_settings() {
  return {"model=" + (models() / "nano").string(), "time_grid.steps=4", "precision=fp32",
          "device=cpu"};
}

vggflow_model* open_model(std::vector<std::string> more = {}) {
  std::vector<std::string> all = model_settings();
  all.insert(all.end(), more.begin(), more.end());
  const Texts settings(all);
  return vggflow_model_open(settings.data(), settings.size());
}

// Images of the tiny model, 16 x 16.
template <class T>
struct Pictures {
  explicit Pictures(int64_t count) : data(static_cast<size_t>(count * 3 * 16 * 16)) {
    images = {count, 16, 16, sizeof(T) == 1 ? VGGFLOW_UINT8_NHWC : VGGFLOW_FLOAT_NCHW, data.data()};
  }
  std::vector<T> data;
  vggflow_images images;
};

Pictures<uint8_t> drawn(vggflow_model* model) {
  Pictures<uint8_t> out(2);
  const Texts prompts({"red heart", "ghost"});
  const std::array<int64_t, 2> seeds{7, 8};
  EXPECT_EQ(vggflow_model_sample(model, prompts.data(), seeds.data(), &out.images), VGGFLOW_DONE)
      << vggflow_last_error();
  return out;
}

TEST(CApi, SamplesTheImagesThatTheProgramWrites) {
  vggflow_model* model = open_model();
  ASSERT_TRUE(model) << vggflow_last_error();
  const Pictures<uint8_t> bytes = drawn(model);
  SampleConfig program;
  for (const std::string& setting : model_settings())
    apply_override(fields_of(program),
                   (setting.starts_with("device") ? "" : "generator.") + setting);
  program.out = (models() / "drawn").string();
  program.prompts = {"ghost"};
  program.seed = 8;
  sample_images(program);
  EXPECT_EQ(read_png(models() / "drawn/00000.png").rgb,
            std::vector<uint8_t>(bytes.data.begin() + 3 * 16 * 16, bytes.data.end()));
  vggflow_model_close(model);
}

TEST(CApi, FloatsAndBytesAreTheSamePixels) {
  vggflow_model* model = open_model();
  const Pictures<uint8_t> bytes = drawn(model);
  Pictures<float> floats(2);
  const Texts prompts({"red heart", "ghost"});
  const std::array<int64_t, 2> seeds{7, 8};
  ASSERT_EQ(vggflow_model_sample(model, prompts.data(), seeds.data(), &floats.images), 0);
  for (size_t i = 0; i < 2; ++i) {
    for (size_t c = 0; c < 3; ++c) {
      for (size_t p = 0; p < 256; ++p) {
        const float value = floats.data[(i * 3 + c) * 256 + p];
        EXPECT_NEAR(value * 255, bytes.data[(i * 256 + p) * 3 + c], 0.501);
        EXPECT_TRUE(value >= 0 && value <= 1);
      }
    }
  }
  int64_t height = 0, width = 0;
  EXPECT_EQ(vggflow_model_image_size(model, &height, &width), VGGFLOW_DONE);
  EXPECT_EQ(height, 16);
  EXPECT_EQ(width, 16);
  vggflow_model_close(model);
}

TEST(CApi, ScoresAsTheRewardDoes) {
  const std::string clip = "reward_model=" + (models() / "clip").string();
  const Texts settings({clip, "device=cpu"});
  vggflow_scorer* scorer =
      vggflow_scorer_open("emoji-clip + 0.5*colorfulness", settings.data(), settings.size());
  ASSERT_TRUE(scorer) << vggflow_last_error();
  vggflow_model* model = open_model();
  Pictures<uint8_t> bytes = drawn(model);
  vggflow_model_close(model);
  const std::vector<std::string> prompts{"red heart", "ghost"};
  const Texts asked(prompts);
  std::array<double, 2> scores{};
  ASSERT_EQ(vggflow_scorer_score(scorer, &bytes.images, asked.data(), scores.data()), VGGFLOW_DONE)
      << vggflow_last_error();
  RewardFiles files;
  files.reward_model = (models() / "clip").string();
  const at::Tensor images = at::from_blob(bytes.data.data(), {2, 16, 16, 3}, at::kByte)
                                .permute({0, 3, 1, 2})
                                .to(at::kFloat) /
                            255;
  const at::Tensor expected =
      make_reward("emoji-clip + 0.5*colorfulness", files.resources())->score(images, prompts);
  for (size_t i = 0; i < 2; ++i)
    EXPECT_NEAR(scores[i], expected[static_cast<int64_t>(i)].item<double>(), 1e-6);
  vggflow_scorer_close(scorer);
}

// The settings of a tiny run as words.
std::vector<std::string> run_words(const std::string& name) {
  AlignConfig config = tiny_config(name), standard;
  config.value.kind = ValueKind::kNone;
  config.updates = config.eval_every = 2;
  config.device.device = "cpu";
  std::vector<std::string> words;
  for (const std::string& key : differences(fields_of(standard), fields_of(config)))
    words.push_back(key + "=" + value_text(*field_of(fields_of(config), key)));
  return words;
}

struct Seen {
  std::vector<double> rewards;
  std::string line, evaluation;
  int64_t updates = 0;
  bool stop = false, interrupt = false;
};

int see(const vggflow_update* update, void* user) {
  auto& seen = *static_cast<Seen*>(user);
  EXPECT_EQ(update->update, std::ssize(seen.rewards) + 1);
  EXPECT_GT(update->seconds, 0);
  EXPECT_GT(update->images_per_second, 0);
  seen.rewards.push_back(update->reward_mean);
  seen.line = update->line;
  seen.evaluation = update->evaluation;
  seen.updates = update->updates;
  if (seen.interrupt) ::raise(SIGINT);
  return seen.stop ? 1 : 0;
}

int run(const std::vector<std::string>& words, Seen* seen) {
  const Texts texts(words);
  return vggflow_align(texts.data(), texts.size(), seen ? see : nullptr, seen);
}

TEST(CApi, ARunTellsEveryUpdateAndLeavesItsReport) {
  const std::vector<std::string> words = run_words("c_whole");
  Seen seen;
  ::testing::internal::CaptureStderr();
  const int end = run(words, &seen);
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "") << "a library is silent unless asked";
  ASSERT_EQ(end, VGGFLOW_FINISHED) << vggflow_last_error();
  const auto lines = lines_of((models() / "c_whole").string(), "update");
  ASSERT_EQ(seen.rewards.size(), 2u);
  EXPECT_EQ(seen.updates, 2);
  for (size_t i = 0; i < 2; ++i)
    EXPECT_EQ(seen.rewards[i], lines[i]["reward"]["mean"].get<double>());
  EXPECT_THAT(seen.line, HasSubstr("\"update\":2"));
  EXPECT_THAT(seen.evaluation, HasSubstr("\"kind\":\"eval\""));
  EXPECT_TRUE(fs::exists(models() / "c_whole/report.html"));
  EXPECT_THAT(read_text(models() / "c_whole/log.txt"), HasSubstr("step 2/2"));
}

TEST(CApi, ACallbackStopsARunThatGoesOnToTheSameEnd) {
  ASSERT_EQ(run(run_words("c_straight"), nullptr), VGGFLOW_FINISHED) << vggflow_last_error();
  std::vector<std::string> words = run_words("c_stopped");
  Seen seen{.rewards = {}, .line = {}, .evaluation = {}, .updates = 0, .stop = true};
  ASSERT_EQ(run(words, &seen), VGGFLOW_STOPPED) << vggflow_last_error();
  EXPECT_EQ(last_checkpoint(models() / "c_stopped"), 1);
  EXPECT_FALSE(fs::exists(models() / "c_stopped/report.html"));
  words.emplace_back("resume=true");
  EXPECT_EQ(run(words, nullptr), VGGFLOW_FINISHED) << vggflow_last_error();
  testing::expect_same_tensors(models() / "c_straight/lora.safetensors",
                               models() / "c_stopped/lora.safetensors");
  EXPECT_EQ(run(words, nullptr), VGGFLOW_FINISHED_BEFORE);
}

void count_signal(int) {}

TEST(CApi, CtrlCIsTheRunsWhereItIsAskedForAndTheProgramsAfterwards) {
  ASSERT_NE(std::signal(SIGINT, count_signal), SIG_ERR);
  Seen seen{
      .rewards = {}, .line = {}, .evaluation = {}, .updates = 0, .stop = false, .interrupt = true};
  vggflow_take_interrupts(1);
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(run(run_words("c_interrupted"), &seen), VGGFLOW_INTERRUPTED);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("stopping after this update"));
  EXPECT_EQ(last_checkpoint(models() / "c_interrupted"), 1);
  vggflow_take_interrupts(0);
  EXPECT_EQ(std::signal(SIGINT, SIG_DFL), count_signal);
}

TEST(CApi, ARefusalSaysWhy) {
  const auto refused = [](const std::vector<std::string>& words) {
    EXPECT_EQ(run(words, nullptr), VGGFLOW_FAILED) << ::testing::PrintToString(words);
    return std::string(vggflow_last_error());
  };
  EXPECT_THAT(refused({"updates=0"}), HasSubstr("updates"));
  EXPECT_THAT(refused({"upates=1"}), HasSubstr("updates"));
  EXPECT_THAT(refused({"--help"}), HasSubstr("got --help"));
  EXPECT_THAT(refused({"page=8675"}), HasSubstr("the live page is the program's"));
  EXPECT_THAT(refused({"--config", "no.yaml"}), HasSubstr("no.yaml"));
  write_text(models() / "foreign.yaml", "reward: torchscript:x.pt\n");
  EXPECT_THAT(refused({"--config", (models() / "foreign.yaml").string()}),
              HasSubstr("pass trust=torchscript"));
  const Texts none({"model=models/none"});
  EXPECT_EQ(vggflow_model_open(none.data(), 1), nullptr);
  EXPECT_THAT(vggflow_last_error(), HasSubstr("models/none"));
  EXPECT_EQ(vggflow_scorer_open("no-such", nullptr, 0), nullptr);
  EXPECT_THAT(vggflow_last_error(), HasSubstr("no-such"));
}

TEST(CApi, NoPointerOfACallersEndsTheProcess) {
  EXPECT_EQ(vggflow_model_open(nullptr, 1), nullptr);
  EXPECT_THAT(vggflow_last_error(), HasSubstr("expected settings, got NULL"));
  EXPECT_EQ(vggflow_scorer_open(nullptr, nullptr, 0), nullptr);
  vggflow_model* model = open_model();
  Pictures<uint8_t> out(1);
  const Texts prompts({"ghost"});
  const int64_t seed = 1, negative = -1;
  const auto refused = [&](vggflow_model* m, const char* const* texts, const int64_t* seeds,
                           const vggflow_images* images) {
    EXPECT_EQ(vggflow_model_sample(m, texts, seeds, images), VGGFLOW_FAILED);
    return std::string(vggflow_last_error());
  };
  EXPECT_THAT(refused(nullptr, prompts.data(), &seed, &out.images), HasSubstr("got NULL"));
  EXPECT_THAT(refused(model, nullptr, &seed, &out.images), HasSubstr("prompts, got NULL"));
  EXPECT_THAT(refused(model, prompts.data(), nullptr, &out.images), HasSubstr("seeds"));
  EXPECT_THAT(refused(model, prompts.data(), &seed, nullptr), HasSubstr("images, got NULL"));
  EXPECT_THAT(refused(model, prompts.data(), &negative, &out.images), HasSubstr("got -1"));
  vggflow_images other = out.images;
  other.width = 17;
  EXPECT_THAT(refused(model, prompts.data(), &seed, &other), HasSubstr("16 x 16"));
  other = out.images;
  other.layout = 5;
  EXPECT_THAT(refused(model, prompts.data(), &seed, &other), HasSubstr("layout"));
  other.count = 0;
  EXPECT_THAT(refused(model, prompts.data(), &seed, &other), HasSubstr("one image or more"));
  vggflow_model_close(model);
  vggflow_model_close(model);
  EXPECT_THAT(refused(model, prompts.data(), &seed, &out.images),
              HasSubstr("expected an open model, got one that was closed"));
  EXPECT_EQ(vggflow_model_image_size(model, nullptr, nullptr), VGGFLOW_FAILED);
}

TEST(CApi, AHostsSettingsOfTorchNeitherReachUsNorChange) {
  ASSERT_EQ(run(run_words("c_alone"), nullptr), VGGFLOW_FINISHED) << vggflow_last_error();
  vggflow_model* model = open_model();
  const Pictures<uint8_t> plain = drawn(model);
  const auto before = c10::get_default_dtype();
  c10::set_default_dtype(caffe2::TypeMeta::Make<double>());
  {
    const at::NoGradGuard no_grad;
    EXPECT_EQ(drawn(model).data, plain.data);
    EXPECT_EQ(run(run_words("c_host"), nullptr), VGGFLOW_FINISHED) << vggflow_last_error();
    EXPECT_FALSE(at::GradMode::is_enabled());
  }
  EXPECT_EQ(c10::get_default_dtype(), caffe2::TypeMeta::Make<double>());
  c10::set_default_dtype(before);
  EXPECT_EQ(lines_of((models() / "c_host").string(), "update"),
            lines_of((models() / "c_alone").string(), "update"));
  vggflow_model_close(model);
}

TEST(CApi, AnErrorIsItsThreadsOwn) {
  EXPECT_EQ(vggflow_scorer_open("mine", nullptr, 0), nullptr);
  std::thread([] {
    EXPECT_STREQ(vggflow_last_error(), "");
    EXPECT_EQ(vggflow_scorer_open("others", nullptr, 0), nullptr);
  }).join();
  EXPECT_THAT(vggflow_last_error(), HasSubstr("mine"));
}

TEST(CApi, NamesItsInterfaceAndRelease) {
  EXPECT_EQ(vggflow_abi(), VGGFLOW_C_ABI);
  EXPECT_EQ(abi_as_c_sees_it(), VGGFLOW_C_ABI);
  EXPECT_THAT(vggflow_version(), HasSubstr(" (commit "));
}

}  // namespace
}  // namespace vggflow::c_api
