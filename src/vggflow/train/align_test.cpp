// The alignment loop on tiny random models: resume bit for bit, what a run leaves behind, and
// refusals.
#include "vggflow/train/align.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <set>
#include <utility>

#include "vggflow/core/config.h"
#include "vggflow/core/error.h"
#include "vggflow/families/lora.h"
#include "vggflow/families/nano/model.h"
#include "vggflow/io/files.h"
#include "vggflow/io/grid_file.h"
#include "vggflow/pretrain/fit.h"
#include "vggflow/testing/message.h"
#include "vggflow/train/align_fixture_test.h"
#include "vggflow/train/checkpoint.h"
#include "vggflow/train/checks.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using testing::expect_same_tensors;
using ::testing::HasSubstr;
using testing::lines_of;
using testing::models;
using testing::tiny_config;

class AlignWith : public ::testing::TestWithParam<ValueKind> {};
INSTANTIATE_TEST_SUITE_P(ValueNetworks, AlignWith,
                         ::testing::Values(ValueKind::kNone, ValueKind::kSmall, ValueKind::kLora));

TEST_P(AlignWith, TwoUpdatesAndTwoAfterAResumeEqualFourBitForBit) {
  AlignConfig whole = tiny_config("whole_" + word_of(GetParam()));
  whole.value.kind = GetParam();
  ASSERT_EQ(align(whole), RunEnd::kFinished);
  AlignConfig first = tiny_config("halves_" + word_of(GetParam()));
  first.value.kind = GetParam();
  first.updates = 2;
  ASSERT_EQ(align(first), RunEnd::kFinished);
  AlignConfig second = first;
  second.updates = 4;
  second.resume = true;
  ASSERT_EQ(align(second), RunEnd::kFinished);
  const fs::path a = whole.run, b = second.run;
  expect_same_tensors(a / "lora.safetensors", b / "lora.safetensors");
  expect_same_tensors(a / "lora_ema.safetensors", b / "lora_ema.safetensors");
  expect_same_tensors(a / "checkpoints/update_000004/state.safetensors",
                      b / "checkpoints/update_000004/state.safetensors");
  EXPECT_EQ(lines_of(a, "update"), lines_of(b, "update"));
  EXPECT_EQ(lines_of(a, "eval").back(), lines_of(b, "eval").back());
  EXPECT_EQ(read_text(a / "grids/eval_000004.png"), read_text(b / "grids/eval_000004.png"));
}

TEST(Align, ARunMovesTheAdapterAndLeavesWhatTheReportNeeds) {
  AlignConfig c = tiny_config("contents");
  ASSERT_EQ(align(c), RunEnd::kFinished);
  const fs::path run = c.run;
  const SafetensorsFile lora(run / "lora.safetensors");
  double moved = 0;
  for (const auto& [name, entry] : lora.tensors()) {
    if (name.ends_with("lora_B.weight")) moved += lora.load(name).abs().sum().item<double>();
  }
  EXPECT_GT(moved, 0);
  EXPECT_EQ(lora.metadata().at("vggflow.reward"), "emoji-clip");
  EXPECT_EQ(lines_of(c.run, "update").size(), 4u);
  const auto evals = lines_of(c.run, "eval");
  ASSERT_EQ(evals.size(), 2u);
  const auto value = [&](size_t i, const char* path) {
    return evals[i]["metrics"].at(Json::json_pointer(path)).get<double>();
  };
  EXPECT_EQ(value(0, "/reward_change/mean"), 0);
  EXPECT_NE(value(1, "/reward_change/mean"), 0);
  EXPECT_NEAR(value(1, "/reward_change/mean"), value(1, "/reward/mean") - value(0, "/reward/mean"),
              1e-9);
  EXPECT_GT(value(1, "/reward_change/se"), 0);
  EXPECT_TRUE(is_complete(run / "checkpoints/update_000004"));
  const auto labels = read_grid_labels(run / "grids/eval_000004.png");
  ASSERT_TRUE(labels);
  EXPECT_EQ(std::ssize(labels->captions), c.grid_images);
  const Json summary = Json::parse(read_text(run / "summary.json"));
  for (const char* phase : {"rollout", "reward", "train", "boundary", "step", "evaluation"})
    EXPECT_GT(summary["seconds"][phase].get<double>(), 0) << phase;
  EXPECT_NO_THROW(load_yaml_text(fields_of(c), lora.metadata().at("vggflow.config"), "metadata"));
}

TEST(Align, AMethodWithoutValueNetworkResumesBitForBitToo) {
  AlignConfig whole = tiny_config("whole_am");
  whole.method = "adjoint-matching";
  ASSERT_EQ(align(whole), RunEnd::kFinished);
  AlignConfig first = whole;
  first.run = (models() / "halves_am").string();
  first.updates = 2;
  ASSERT_EQ(align(first), RunEnd::kFinished);
  AlignConfig second = first;
  second.updates = 4;
  second.resume = true;
  ASSERT_EQ(align(second), RunEnd::kFinished);
  expect_same_tensors(fs::path(whole.run) / "lora.safetensors",
                      fs::path(second.run) / "lora.safetensors");
  EXPECT_EQ(lines_of(whole.run, "update"), lines_of(second.run, "update"));
}

// Presses every button after the first update.
class Presses : public RunControl {
 public:
  explicit Presses(bool stop) : stop_(stop) {}
  RunWishes take() override {
    if (updates++ > 0) return {};
    return {.stop = stop_, .save = true, .samples = {{1, "red heart", 5}, {2, "red heart", 5}}};
  }
  void saved(int64_t update) override { saves.push_back(update); }
  void drawn(const SampleWish& wish, int64_t update, const Image& base,
             const Image& aligned) override {
    EXPECT_EQ(update, 1);
    images.push_back(base.rgb);
    images.push_back(aligned.rgb);
  }
  void failed(const SampleWish& wish, const std::string& why) override { ADD_FAILURE() << why; }

  int64_t updates = 0;
  std::vector<int64_t> saves;
  std::vector<std::vector<uint8_t>> images;

 private:
  bool stop_;
};

TEST(Align, WishesOfAPersonChangeNoNumber) {
  AlignConfig alone = tiny_config("alone"), asked = tiny_config("asked");
  for (AlignConfig* c : {&alone, &asked}) {
    c->value.kind = ValueKind::kNone;
    c->updates = c->eval_every = 2;
  }
  Presses presses(/*stop=*/false);
  ASSERT_EQ(align(alone), RunEnd::kFinished);
  ASSERT_EQ(align(asked, {}, {}, &presses), RunEnd::kFinished);
  EXPECT_EQ(presses.updates, 2);
  EXPECT_EQ(presses.saves, (std::vector<int64_t>{1, 2}));
  ASSERT_EQ(presses.images.size(), 4u);
  EXPECT_EQ(presses.images[0], presses.images[2]) << "the same noise";
  EXPECT_EQ(presses.images[1], presses.images[3]);
  EXPECT_NE(presses.images[0], presses.images[1]);
  expect_same_tensors(fs::path(alone.run) / "lora.safetensors",
                      fs::path(asked.run) / "lora.safetensors");
  EXPECT_EQ(lines_of(alone.run, "update"), lines_of(asked.run, "update"));
  EXPECT_EQ(lines_of(alone.run, "eval"), lines_of(asked.run, "eval"));
}

TEST(Align, StopsAfterTheUpdateWhenAskedAndGoesOn) {
  AlignConfig c = tiny_config("stopped");
  c.value.kind = ValueKind::kNone;
  c.updates = c.eval_every = 2;
  Presses presses(/*stop=*/true);
  ASSERT_EQ(align(c, {}, {}, &presses), RunEnd::kInterrupted);
  EXPECT_EQ(last_checkpoint(c.run), 1);
  c.resume = true;
  ASSERT_EQ(align(c), RunEnd::kFinished);
  EXPECT_EQ(lines_of(c.run, "update").size(), 2u);
}

// Another number of steps in evaluation changes what is seen, not what is trained.
TEST(Align, EvaluatesOnAGridOfItsOwn) {
  AlignConfig same = tiny_config("eval_same"), finer = tiny_config("eval_finer");
  same.value.kind = finer.value.kind = ValueKind::kNone;
  same.updates = finer.updates = 1;
  finer.eval_steps = 12;
  ASSERT_EQ(align(same), RunEnd::kFinished);
  ASSERT_EQ(align(finer), RunEnd::kFinished);
  expect_same_tensors(fs::path(same.run) / "lora.safetensors",
                      fs::path(finer.run) / "lora.safetensors");
  EXPECT_NE(lines_of(same.run, "eval")[0]["metrics"], lines_of(finer.run, "eval")[0]["metrics"]);
  finer.run = (models() / "eval_explicit").string();
  finer.time_grid = {.steps = 2, .kind = GridKind::kExplicit, .sigmas = {1.0, 0.5}};
  EXPECT_THAT(testing::message_of([&] { align(finer); }),
              HasSubstr("expected eval_steps=0 with an explicit time grid, got 12"));
}

TEST(Align, RefusesAValueNetworkForAMethodThatTrainsNone) {
  AlignConfig c = tiny_config("refused");
  c.method = "refl";
  c.value.kind = ValueKind::kSmall;
  EXPECT_THAT(testing::message_of([&] { align(c); }),
              HasSubstr("refl trains no value network, got value.kind=mmdit"));
  EXPECT_THAT(
      testing::message_of([] { make_method("vggflow", {}); }),
      HasSubstr(
          "known are adjoint-matching, draft, drtune, eam, fitted-adjoint, flowbp, leapalign, "
          "ram, refl, vgg-flow, vgg-flow-pmp"));
}

// lambda's unit is a spread that one image per prompt does not have.
TEST(Align, RefusesAnUnknownSpreadAndGuidanceByHalves) {
  AlignConfig c = tiny_config("spread_refused");
  c.method = "adjoint-matching";
  c.value.kind = ValueKind::kNone;
  c.eval.images = 1;
  EXPECT_THAT(testing::message_of([&] { align(c); }),
              HasSubstr("expected eval.images=2 or more with adjoint_matching.lambda_unit=spread, "
                        "got 1"));
  c.eval.images = 2;
  c.problem.guidance_in = {GuidedCall::kAuto, GuidedCall::kRollout};
  EXPECT_THAT(testing::message_of([&] { align(c); }),
              HasSubstr("expected guidance_in=[auto] alone"));
  EXPECT_FALSE(fs::exists(c.run));
}

// The target of a tilted law is the conditional model's: its rollouts alone are guided.
TEST(ResolvedMethod, GuidesWhereTheMethodAsksForIt) {
  AlignConfig c = tiny_config("guided");
  for (const char* tilted : {"adjoint-matching", "eam", "ram"}) {
    c.method = tilted;
    EXPECT_EQ(ResolvedMethod(c).problem.guidance_in, std::vector{GuidedCall::kRollout}) << tilted;
  }
  c.method = "vgg-flow";
  EXPECT_EQ(ResolvedMethod(c).problem.guidance_in.size(), 4u);
  c.problem.guidance_in = {};
  EXPECT_TRUE(ResolvedMethod(c).problem.guidance_in.empty());
}

// As a judge the same reward is welcome.
TEST(Align, RefusesToTrainOnARewardWithoutGradient) {
  AlignConfig c = tiny_config("no_gradient");
  c.updates = 1;
  c.eval_every = 1;
  c.eval.panel = {"jpeg"};
  ASSERT_EQ(align(c), RunEnd::kFinished);
  const Json opinion = lines_of(c.run, "eval").back()["metrics"]["panel"]["jpeg"];
  EXPECT_GT(opinion["mean"].get<double>(), 100);
  c.run += "_refused";
  c.reward = "colorfulness + 0.01*jpeg";
  EXPECT_THAT(testing::message_of([&] { align(c); }),
              HasSubstr("[reward] colorfulness + 0.01*jpeg has no gradient: it can judge"));
}

// beta_warmup scales what the methods regress on: at update 1 of 4 the control energy is a
// sixteenth.
TEST(Align, WarmsBetaUp) {
  AlignConfig full = tiny_config("beta_full"), warm = tiny_config("beta_warm");
  full.value.kind = warm.value.kind = ValueKind::kNone;
  full.updates = warm.updates = 1;
  warm.beta_warmup = 4;
  ASSERT_EQ(align(full), RunEnd::kFinished);
  ASSERT_EQ(align(warm), RunEnd::kFinished);
  const auto energy = [](const AlignConfig& c) {
    return lines_of(c.run, "update")[0]["values"]["control_energy"].get<double>();
  };
  EXPECT_NEAR(energy(warm) / energy(full), 1.0 / 16, 1e-4);
}

TEST(Align, KeepsTheBestEvaluationThatNothingSpeaksAgainst) {
  AlignConfig c = tiny_config("best");
  c.reward = "colorfulness";
  c.eval_every = 1;
  c.eval.panel = {"emoji-clip", "colorfulness"};
  ASSERT_EQ(align(c), RunEnd::kFinished);
  const fs::path run = c.run;
  const Json summary = Json::parse(read_text(run / "summary.json"));
  double best = -1e9;
  std::set<int64_t> warned;
  for (const Json& w : lines_of(c.run, "warning")) warned.insert(w["update"].get<int64_t>());
  for (const Json& e : lines_of(c.run, "eval")) {
    EXPECT_TRUE(e["metrics"]["panel"].contains("emoji-clip"));
    EXPECT_FALSE(e["metrics"]["panel"].contains("colorfulness"))
        << "what is trained on does not judge";
    if (e["update"] > 0 && !warned.contains(e["update"].get<int64_t>()))
      best = std::max(best, e["metrics"]["reward"]["mean"].get<double>());
  }
  ASSERT_GT(best, -1e9) << "every evaluation was warned of: the test needs another seed";
  EXPECT_EQ(summary["best"]["metrics"]["reward"]["mean"].get<double>(), best);
  EXPECT_TRUE(is_complete(run / "checkpoints/best"));
  const SafetensorsFile lora(run / "lora_best.safetensors");
  EXPECT_EQ(lora.metadata().at("vggflow.best_update"),
            fmt::to_string(summary["best"]["update"].get<int64_t>()));
}

TEST(Complaints, NameWhatFellWhileTheRewardRose) {
  Evaluation base, now;
  base.diversity.mean = now.diversity.mean = 1;
  now.reward_change = {2, 0.1};
  EXPECT_TRUE(complaints(base, now, 0.8).empty());
  now.judged = true;
  now.judge_change = {-0.1, 0.04, 20};
  now.panel["emoji-clip"].change = {-1, 0.4, 20};
  now.diversity_log = {std::log(0.7), 0.1, 20};
  const auto all = complaints(base, now, 0.8);
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[0].second,
            "the judge's accuracy fell by 10.0 +- 4.0 points (paired by prompt) while the reward "
            "rose: reward hacking");
  EXPECT_EQ(
      all[1].second,
      "emoji-clip fell by 1.000 +- 0.400 (paired by prompt) while the reward rose: reward hacking");
  EXPECT_EQ(all[2].second, "diversity is 70 % of the base model's, below the floor of 80 %");
  now.judge_change = {-0.1, 0.06, 20};
  EXPECT_EQ(complaints(base, now, 0.8).size(), 2u) << "within the quantile";
}

// Two prompts of a smoke test called a healthy model a hacker.
TEST(Complaints, MakeNothingOfTwoPrompts) {
  Evaluation base, now;
  base.diversity.mean = 1;
  now.reward_change = {2, 0.1, 2};
  now.judged = true;
  now.judge_change = {-0.1, 0.04, 2};
  now.panel["emoji-clip"].change = {-1, 0.1, 2};
  now.diversity_log = {std::log(0.7), 0.1, 2};
  EXPECT_TRUE(complaints(base, now, 0.8).empty());
  now.diversity_log = {std::log(0.02), 0.01, 2};
  EXPECT_EQ(complaints(base, now, 0.8).size(), 1u) << "a collapse shows in two prompts, too";
  now.diversity_log = {std::log(0.02), std::nullopt, 1};
  EXPECT_EQ(complaints(base, now, 0.8).size(), 1u) << "of one prompt the floor decides";
}

// A value network that is a view of the policy's weights adds only its adapters and its output
// layer, and reads back as it was saved.
TEST(ValueNetworkFile, ReadsBackEveryKind) {
  const auto model = NanoModel::load(models() / "nano", at::kFloat);
  const Tensor state = at::randn({2, 3, 16, 16}), t = at::tensor({0.9f, 0.1f});
  const Conditioning c = model->encode({"red heart", "ghost"});
  const Tensor shown = at::randn({2, 9, 16, 16});
  for (const auto& [kind, inputs, clock] :
       {std::tuple{ValueKind::kSmall, ValueInputs::kState, ValueClock::kNetwork},
        {ValueKind::kSmall, ValueInputs::kGuess, ValueClock::kSlow},
        {ValueKind::kUnet, ValueInputs::kState, ValueClock::kNetwork},
        {ValueKind::kUnet, ValueInputs::kGuess, ValueClock::kSlow},
        {ValueKind::kLora, ValueInputs::kState, ValueClock::kNetwork}}) {
    const ValueOptions options{
        .kind = kind, .width = 32, .layers = 1, .rank = 2, .inputs = inputs, .clock = clock};
    const Tensor& x = inputs == ValueInputs::kGuess ? shown : state;
    const std::vector<std::string> targets{"transformer_blocks.*.attn.to_q"};
    const auto network = make_value_network(options, *model, targets, 3);
    EXPECT_EQ(network->evaluate(x, t, c).abs().max().item<double>(), 0)
        << word_of(kind) << " does not start at zero";
    for (const NamedTensor& p : network->trainable()) {
      at::NoGradGuard no_grad;
      p.tensor->add_(0.1);
    }
    const fs::path file = models() / fmt::format("value_{}.safetensors", word_of(kind));
    save_value_network(file, *network, options, targets, 0.25);
    const auto back = load_value_network(file, *model);
    EXPECT_EQ(back.scale, 0.25);
    EXPECT_EQ(back.network->sees_guess, inputs == ValueInputs::kGuess);
    EXPECT_EQ(network->evaluate(x, t, c).size(1), 3);
    EXPECT_GT(network->evaluate(x, t, c).abs().max().item<double>(), 0);
    EXPECT_TRUE(at::equal(back.network->evaluate(x, t, c), network->evaluate(x, t, c)))
        << word_of(kind);
  }
}

// nu is linear in the reward's gradient that it is shown, and zero where that is.
TEST(ValueNetwork, ThatSeesTheGuessIsAsLargeAsIt) {
  const auto model = NanoModel::load(models() / "nano", at::kFloat);
  const Conditioning c = model->encode({"red heart", "ghost"});
  const auto network = make_value_network({.kind = ValueKind::kSmall,
                                           .width = 32,
                                           .layers = 1,
                                           .inputs = ValueInputs::kGuess,
                                           .clock = ValueClock::kSlow},
                                          *model, {}, 3);
  at::NoGradGuard no_grad;
  for (const NamedTensor& p : network->trainable()) p.tensor->add_(0.1);
  const Tensor x = at::randn({2, 3, 16, 16}), t = at::tensor({0.9f, 0.1f}),
               end = at::randn({2, 3, 16, 16}), gradient = at::randn({2, 3, 16, 16});
  const auto nu = [&](const Tensor& g) {
    return value_correction(*network, 0.25, x, t, c, {end, g});
  };
  const Tensor one = nu(gradient);
  EXPECT_GT(one.abs().max().item<double>(), 0);
  EXPECT_LT((nu(1e-7 * gradient) * 1e7 - one).abs().max().item<double>(),
            1e-4 * one.abs().max().item<double>());
  EXPECT_EQ(nu(at::zeros_like(gradient)).abs().max().item<double>(), 0);
  EXPECT_THAT(testing::message_of([&] { value_correction(*network, 1, x, t, c, {}); }),
              HasSubstr("expected the guess beside the state"));
}

// The same problem in other units of reward trains the same value network: phi's gradient must not
// sink below Adam's eps where beta is large.
TEST(Align, TheValueNetworkDoesNotKnowTheRewardsUnits) {
  for (const char* kind : {"exact", "step", "return"}) {
    const auto trained = [&](const std::string& name, const std::string& reward, double beta,
                             double lr = 1e-3) {
      AlignConfig c = tiny_config(fmt::format("units_{}_{}", kind, name));
      c.value.kind = ValueKind::kSmall;
      c.value.width = 32;
      c.value.layers = 1;
      c.updates = 3;
      c.reward = reward;
      c.value_optimizer.lr = lr;
      c.methods.set(
          "vgg-flow",
          fmt::format("bins=3 beta={} consistency.kind={} consistency.warmup=1", beta, kind));
      EXPECT_EQ(align(c), RunEnd::kFinished);
      const SafetensorsFile file(fs::path(c.run) / "value.safetensors");
      std::vector<Tensor> all;
      for (const auto& [tensor, entry] : file.tensors()) all.push_back(file.load(tensor).flatten());
      return at::cat(all);
    };
    const Tensor plain = trained("plain", "1*colorfulness", 5),
                 tiny = trained("tiny", "1e-7*colorfulness", 5e7);
    const Tensor fresh = trained("fresh", "1*colorfulness", 5, 0);
    EXPECT_GT((plain - fresh).norm().item<double>(), 1e-3) << kind << ": nu did not move";
    EXPECT_LT((plain - tiny).norm().item<double>(), 1e-2 * (plain - fresh).norm().item<double>())
        << kind;
  }
}

TEST(Align, RefusesAGuessAsInputOfLossesThatDifferentiateNu) {
  AlignConfig c = tiny_config("sees_guess");
  c.value.inputs = ValueInputs::kGuess;
  EXPECT_THAT(testing::message_of([&] { align(c); }),
              HasSubstr("expected value.inputs=state with this vgg.consistency.kind"));
  c.methods.set("vgg-flow", "consistency.kind=return");
  c.value.kind = ValueKind::kLora;
  EXPECT_THAT(testing::message_of([&] { align(c); }),
              HasSubstr("expected value.inputs=state with value.kind=lora"));
}

// Kind return first trains nu alone; the policy's adapters stay as they began.
TEST(Align, ThePolicyWaitsWhileTheValueNetworkWarmsUp) {
  AlignConfig c = tiny_config("warmup");
  c.value.kind = ValueKind::kSmall;
  c.updates = 2;
  c.methods.set("vgg-flow", "bins=3 beta=5 consistency.kind=return consistency.warmup=2");
  ASSERT_EQ(align(c), RunEnd::kFinished);
  const SafetensorsFile lora(fs::path(c.run) / "lora.safetensors");
  for (const auto& [name, entry] : lora.tensors()) {
    if (name.find("lora_B") != std::string::npos)
      EXPECT_EQ(lora.load(name).abs().max().item<double>(), 0) << name;
  }
  for (const nlohmann::json& line : lines_of(c.run, "update"))
    EXPECT_THAT(line.dump(), ::testing::AllOf(HasSubstr("policy_waits"), HasSubstr("\"return\"")));
}

TEST(Align, EveryCommittedConfigurationLoads) {
  int count = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(VGGFLOW_SOURCE_DIR) / "configs")) {
    if (!entry.is_regular_file()) continue;  // configs/compare/ holds another command's
    AlignConfig c;
    EXPECT_NO_THROW(load_yaml(fields_of(c), entry.path())) << entry.path();
    ++count;
  }
  EXPECT_GE(count, 3);
}

TEST(Align, AnotherSeedGivesOtherNumbers) {
  AlignConfig a = tiny_config("seed_0"), b = tiny_config("seed_1");
  b.seed = 1;
  a.updates = b.updates = 1;
  ASSERT_EQ(align(a), RunEnd::kFinished);
  ASSERT_EQ(align(b), RunEnd::kFinished);
  EXPECT_NE(lines_of(a.run, "update")[0]["reward"], lines_of(b.run, "update")[0]["reward"]);
}

TEST(Checkpoints, AHalfWrittenOneIsNeverRead) {
  const fs::path run = models() / "checkpoints_test";
  save_checkpoint(run, {2, {{"a", at::ones({2})}}, {}});
  fs::create_directories(run / "checkpoints/update_000004");
  write_text(run / "checkpoints/update_000004/state.safetensors", "half");
  EXPECT_EQ(load_checkpoint(run)->update, 2);
  save_checkpoint(run, {6, {{"a", at::ones({2})}}, {}});
  save_checkpoint(run, {8, {{"a", at::ones({2})}}, {}});
  EXPECT_FALSE(fs::exists(run / "checkpoints/update_000002"));
  EXPECT_TRUE(fs::exists(run / "checkpoints/update_000006"));
  EXPECT_THROW(checkpoint_tensor(*load_checkpoint(run), "a", at::ones({3})), Error);
  EXPECT_THROW(checkpoint_tensor(*load_checkpoint(run), "b", at::ones({2})), Error);
}

// A one-layer regression: fit reaches its closed-form optimum, and k + k updates equal 2k.
TEST(Fit, ReachesTheOptimumAndResumesBitForBit) {
  std::vector<std::pair<int64_t, double>> curve;
  const auto train = [&](const std::string& name, std::vector<int64_t> stops) {
    Linear layer(2, 1);
    for (const int64_t stop : stops) {
      FitOptions o{.updates = stop,
                   .batch = 1,
                   .warmup = 5,
                   .final_lr = 1.0,
                   .ema_decay = 0.5,
                   .grad_clip = 0,
                   .checkpoint_every = 50,
                   .log_every = 75,
                   .preview_every = 1000,
                   .optimizer = {}};
      o.optimizer.lr = 0.05;
      o.optimizer.weight_decay = 0;
      const auto points =
          fit({layer,
               [&](int64_t update) {
                 const Tensor x = at::tensor({std::sin(static_cast<float>(update)),
                                              std::cos(2 * static_cast<float>(update))})
                                      .unsqueeze(0);
                 return (layer.forward(x) - (3 * x.select(1, 0) - x.select(1, 1) + 0.5))
                     .square()
                     .mean();
               },
               nullptr},
              o, models() / name, stop != stops.front());
      curve.clear();
      for (const LossPoint& p : points) curve.emplace_back(p.update, p.loss);
    }
    return layer.weight.clone();
  };
  const Tensor whole = train("fit_whole", {400});
  const auto whole_curve = curve;
  const Tensor halves = train("fit_halves", {200, 400});
  EXPECT_TRUE(at::equal(whole, halves));
  EXPECT_EQ(whole_curve.size(), 5u);
  EXPECT_EQ(curve, whole_curve)
      << "the loss curve is kept over a resume, the point that spans it too";
  EXPECT_TRUE(at::allclose(whole, at::tensor({3.0f, -1.0f}).unsqueeze(0), 1e-2, 1e-2)) << whole;
}

TEST(AdamW, SkipsAGradientThatIsNotFinite) {
  Linear layer(2, 1);
  ParameterBuffer buffer(layer.parameters());
  AdamW adamw(buffer, {});
  buffer.gradient().fill_(1);
  EXPECT_TRUE(adamw.step(0.1));
  const Tensor before = buffer.values().clone();
  buffer.gradient()[0] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(adamw.step(0.1));
  EXPECT_TRUE(at::equal(buffer.values(), before));
  EXPECT_EQ(adamw.steps, 1);
}

TEST(ParameterBuffer, ClipScalesTheGradientToTheNorm) {
  Linear layer(2, 1);
  ParameterBuffer buffer(layer.parameters());
  buffer.gradient().copy_(at::tensor({3.0f, 4.0f, 0.0f}));
  EXPECT_DOUBLE_EQ(buffer.clip(1.0), 5.0);
  EXPECT_NEAR(buffer.gradient_norm(), 1.0, 1e-6);
  EXPECT_DOUBLE_EQ(buffer.clip(0.0), buffer.gradient_norm());
}

}  // namespace
}  // namespace vggflow
