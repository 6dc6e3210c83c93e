// The planner: what it predicts of runs against what they take, every preset, what its switches do,
// and what it refuses.
#include "vggflow/plan/plan.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "vggflow/algorithms/vgg_flow.h"
#include "vggflow/core/config.h"
#include "vggflow/core/duration.h"
#include "vggflow/families/nano/model.h"
#include "vggflow/flow/precision.h"
#include "vggflow/networks/autoencoders/decoder_cost.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/reference.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::message_of;

const fs::path kSource = VGGFLOW_SOURCE_DIR;

AlignConfig preset(const std::string& file) {
  AlignConfig c;
  load_yaml(fields_of(c), kSource / "configs" / file);
  return c;
}

AlignConfig nano() {
  AlignConfig c = preset("nano.yaml");
  c.flow.model = (kSource / "models/nano").string();
  c.judge = (kSource / "models/judge").string();
  return c;
}

double amount(const std::vector<Amount>& amounts, const std::string& name) {
  for (const Amount& a : amounts) {
    if (a.name == name) return a.value;
  }
  return 0;
}

class Presets : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(All, Presets,
                         ::testing::Values("aesthetic", "hpsv2", "pickscore", "aesthetic-release",
                                           "hpsv2-release", "pickscore-release"),
                         [](const auto& one) {
                           auto n = one.param;
                           std::replace(n.begin(), n.end(), '-', '_');
                           return n;
                         });

TEST_P(Presets, ParseAndCanBePlannedWithoutTheModel) {
  const AlignConfig c = preset("sd3-medium/" + GetParam() + ".yaml");
  EXPECT_EQ(c.batch, 32);
  EXPECT_EQ(c.problem.guidance, 5.0);
  const ModelShape shape = read_model_shape(c.flow);
  const Plan p = plan(c, shape);
  ASSERT_EQ(p.notes.size(), 1u);  // no preset names prompts
  EXPECT_EQ(p.notes[0],
            "no prompts are given, and align will ask for prompts.train and prompts.eval (or "
            "prompts.classes). Counted are the 20 of eval.prompts, of 333 tokens and "
            "2.61 MiB each; those to train on come on top");
  EXPECT_NEAR(amount(p.memory, "prompt embeddings"), 21 * 2.0 * (333 * 4096 + 2048), 1);
  EXPECT_EQ(amount(p.parameters, "network"), 2028328000.0);
  EXPECT_EQ(amount(p.parameters, "adapters"), 2359296.0);  // as the paper's code has it
  EXPECT_GT(amount(p.parameters, "reward"), 3e8);
  EXPECT_GT(p.half_flops, 1e15);
  EXPECT_GT(p.peak, 8e9);
  EXPECT_FALSE(switches(c, shape).empty());
}

TEST(Presets, DifferWhereThePaperAndItsCodeDo) {
  const auto beta = [](const std::string& name) {
    AlignConfig c = preset("sd3-medium/" + name + ".yaml");
    return c.methods.of<VggFlowOptions>().beta;
  };
  EXPECT_EQ(beta("aesthetic"), 5e4);
  EXPECT_EQ(beta("hpsv2"), 3e7);
  EXPECT_EQ(beta("pickscore"), 5e5);
  AlignConfig release = preset("sd3-medium/aesthetic-release.yaml");
  EXPECT_EQ(release.methods.of<VggFlowOptions>().transitions.count(), 6);
  EXPECT_EQ(release.flow.sd3.decoder, Sd3Decoder::kTaesd3);
}

// A preset of a card: its GiB, model and sides of images.
using OfACard = std::tuple<int, std::string, int64_t>;
class CardPresets : public ::testing::TestWithParam<OfACard> {
 protected:
  static AlignConfig config() {
    const auto& [card, model, pixels] = GetParam();
    return preset(fmt::format("{}gb/{}-{}.yaml", card, model, pixels));
  }
};
std::vector<OfACard> card_presets() {
  std::vector<OfACard> all;
  for (const int64_t pixels : {512, 1024}) {
    for (const int card : {24, 80}) {
      for (const char* model : {"sd3-medium", "sd35-medium", "sd35-large"})
        all.emplace_back(card, model, pixels);
    }
  }
  return all;
}
std::string name_of(const ::testing::TestParamInfo<OfACard>& one) {
  const auto& [card, model, pixels] = one.param;
  std::string name = fmt::format("{}gb_{}_{}", card, model, pixels);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(All, CardPresets, ::testing::ValuesIn(card_presets()), name_of);

TEST_P(CardPresets, FitTheirCardByTheCountOfThePlan) {
  const AlignConfig c = config();
  const auto& [card, model, pixels] = GetParam();
  const double gib = 1024.0 * 1024 * 1024;
  EXPECT_EQ(c.device.device, "cuda");
  EXPECT_EQ(precision_dtype(c.flow.precision), at::kBFloat16);
  // GPUs of that size: their memory as the driver shows it, less what others hold there.
  for (const Device& d : known_devices("")) {
    const double holds = d.memory / gib;
    if (holds > card - 1 && holds < card + 1) {
      EXPECT_LE(c.memory_limit, holds - 1) << d.name;
    }
  }
  const ModelShape shape = read_model_shape(c.flow);
  EXPECT_EQ(shape.state[1] * shape.upscale, pixels);
  EXPECT_EQ(shape.state[2] * shape.upscale, pixels);
  const Plan p = plan(c, shape);
  const double parameters = model == "sd3-medium" ? 2.03e9 : model == "sd35-medium" ? 2.2e9 : 8.1e9;
  EXPECT_NEAR(amount(p.parameters, "network"), parameters, 0.1e9);
  EXPECT_LE(p.gpu.peak / gib, c.memory_limit) << p.gpu.fullest;
  EXPECT_EQ(message_of([&] { check_memory_limit(c, shape, /*on_gpu=*/true); }), "no error");
}

TEST(MemoryLimit, RefusesARunAboveItAndSaysWhatLowersIt) {
  AlignConfig c = preset("sd3-medium/aesthetic.yaml");
  const ModelShape shape = read_model_shape(c.flow);
  const Plan p = plan(c, shape);
  const double gib = 1024.0 * 1024 * 1024;
  const auto refusal = [&](double limit, bool on_gpu) {
    c.memory_limit = limit;
    return message_of([&] { check_memory_limit(c, shape, on_gpu); });
  };
  EXPECT_EQ(refusal(0, true), "no error");
  EXPECT_EQ(refusal(p.gpu.peak / gib + 0.01, true), "no error");
  EXPECT_EQ(refusal(p.peak / gib + 0.01, false), "no error");
  const std::string said = refusal(16, true);
  EXPECT_THAT(said, HasSubstr("[memory_limit] expected a run of at most 16 GiB, vggflow plan "
                              "counts "));
  EXPECT_THAT(said, HasSubstr("GiB of the GPU's memory (" + p.gpu.fullest + ")"));
  EXPECT_THAT(said, HasSubstr("these settings lower it:\n  checkpointing=true: "));
  EXPECT_THAT(refusal(16, false), HasSubstr("GiB of the process (" + p.fullest + ")"));
}

TEST(MemoryLimit, LeavesNoFolderOfARunThatItRefuses) {
  const testing::TemporaryFolder folder;
  AlignConfig c = nano();
  c.run = (folder / "run").string();
  c.memory_limit = 0.1;
  const auto check = [](const AlignConfig& asked, const ModelShape& shape) {
    check_memory_limit(asked, shape, /*on_gpu=*/false);
  };
  EXPECT_THAT(message_of([&] { align(c, Group(), check); }),
              HasSubstr("expected a run of at most 0.1 GiB"));
  EXPECT_FALSE(fs::exists(c.run));
}

// What a call of 8 samples held at most on an H100 (docs/gpu.md, bench/gpu.sh), against the counted
// bytes: the network with merged attention weights beside it, and what the call takes.
TEST(PlanOfAGpu, CountsWhatAnH100Measured) {
  struct Measured {
    const char* model;
    int64_t pixels;
    NetworkCall call;
    double gib;
  };
  const NetworkCall base{.bytes = 2}, backward{.bytes = 2, .rank = 8, .input_gradient = true},
      again{.bytes = 2, .rank = 8, .input_gradient = true, .checkpointing = true};
  const Measured all[]{{"3.5-medium", 512, base, 5.1},       {"3.5-medium", 1024, base, 6.3},
                       {"3-medium", 512, base, 4.7},         {"3.5-medium", 512, backward, 21.8},
                       {"3.5-medium", 1024, backward, 62.1}, {"3-medium", 512, backward, 16.5},
                       {"3.5-medium", 512, again, 7.0},      {"3.5-medium", 1024, again, 12.4},
                       {"3-medium", 512, again, 6.5}};
  constexpr double kGiB = 1024.0 * 1024 * 1024, kRows = 8, kRounding = 0.05;
  for (const Measured& m : all) {
    ModelOptions o;
    o.model = std::string("stabilityai/stable-diffusion-") + m.model;
    o.sd3.height = o.sd3.width = m.pixels;
    const auto network = read_model_shape(o).network;
    const PassCost cost = network->cost(m.call);
    constexpr double kMerged = 24 * 4 * 1536.0 * 1536.0;
    const double held = 2 * (network->parameters() + kMerged) / kGiB,
                 taken = (m.call.rank == 0 ? kRows * cost.idle
                                           : kRows * (cost.graph + cost.unwind) + cost.graph_once) /
                         kGiB;
    EXPECT_LE(m.gib, held + 1.3 * taken + kRounding) << m.model << " " << m.pixels;
    EXPECT_GE(m.gib, held + 0.85 * taken - kRounding) << m.model << " " << m.pixels;
  }
}

TEST(PlanOfAGpu, LeavesTheBlocksOfAnOffloadedNetworkOnTheHost) {
  AlignConfig c = preset("24gb/sd35-large-512.yaml");
  const ModelShape shape = read_model_shape(c.flow);
  const Plan offloaded = plan(c, shape);
  EXPECT_THAT(offloaded.notes.back(),
              HasSubstr("offload=blocks: on a GPU 14.9 GiB of weights lie"));
  c.flow.offload = Offload::kNone;
  const Plan resident = plan(c, shape);
  EXPECT_EQ(offloaded.peak, resident.peak) << "of a CPU";
  // Two of 38 blocks of 36 matrices of 2432 x 2432, in bf16.
  constexpr double kBlock = 2 * 36 * 2432.0 * 2432.0;
  EXPECT_NEAR(amount(resident.gpu.memory, "network") - amount(offloaded.gpu.memory, "network"),
              36 * kBlock, 0.5 * kBlock);
  EXPECT_THAT(message_of([&] { check_memory_limit(c, shape, /*on_gpu=*/true); }),
              HasSubstr("checkpointing=true offload=blocks: "));
}

TEST(PlanOfRanks, SharesTheWorkAndHoldsAShareEach) {
  AlignConfig c = nano();
  const ModelShape shape = read_model_shape(c.flow);
  const Plan alone = plan(c, shape);
  EXPECT_EQ(amount(alone.memory, "gradients of shares"), 0);
  c.shares = 8;
  const Plan shared = plan(c, shape), of_four = plan(c, shape, 4);
  EXPECT_LT(shared.peak, alone.peak) << "a share of two trajectories at a time";
  EXPECT_LT(of_four.peak, shared.peak) << "two shares' states and gradients";
  const double adapters = amount(alone.parameters, "adapters"),
               value = amount(alone.parameters, "value network");
  EXPECT_EQ(amount(shared.memory, "gradients of shares"), 4 * 8 * (adapters + value));
  EXPECT_EQ(amount(of_four.memory, "gradients of shares"), 4 * 7 * (adapters + value))
      << "two shares thrice, and their sum";
  const Device device = known_devices("").front();
  EXPECT_DOUBLE_EQ(of_four.seconds(device), shared.seconds(device) / 4);
  EXPECT_THAT(message_of([&] { plan(c, shape, 3); }),
              HasSubstr("expected a number of processes that divides shares=8, got 3"));
}

TEST(PlanOfRanks, HoldsAPartOfShardedWeights) {
  AlignConfig c = preset("24gb/sd35-large-512.yaml");
  c.flow.offload = Offload::kNone;
  c.shares = 4;
  const ModelShape shape = read_model_shape(c.flow);
  const Plan resident = plan(c, shape, 4);
  c.flow.weights = Weights::kSharded;
  const Plan sharded = plan(c, shape, 4);
  // Two of 38 blocks of 36 matrices of 2432 x 2432, in bf16.
  constexpr double kBlock = 2 * 36 * 2432.0 * 2432.0;
  EXPECT_NEAR(amount(resident.gpu.memory, "network") - amount(sharded.gpu.memory, "network"),
              36 * kBlock, 0.5 * kBlock);
  EXPECT_NEAR(amount(resident.memory, "network") - amount(sharded.memory, "network"),
              (36 - 38 / 4.0) * kBlock, 0.5 * kBlock);
  EXPECT_THAT(sharded.notes.back(), HasSubstr("each of 4 processes holds 3.7 GiB"));
  c.flow.checkpointing = false;
  EXPECT_THAT(message_of([&] { plan(c, shape, 4); }),
              HasSubstr("[weights] expected checkpointing=true with weights=sharded"));
  c.flow.checkpointing = true;
  c.flow.offload = Offload::kBlocks;
  EXPECT_THAT(message_of([&] { plan(c, shape, 4); }),
              HasSubstr("expected offload=none with weights=sharded, got blocks"));
}

TEST(Plan, AddsUpItsPartsAndTakesTheFullestMoment) {
  for (const AlignConfig& c :
       {nano(), preset("sd3-medium/aesthetic.yaml"), preset("sd3-medium/pickscore-release.yaml")}) {
    const Plan p = plan(c, read_model_shape(c.flow));
    double sum = 0, fullest = 0;
    for (const Amount& part : p.memory) sum += part.value;
    for (const Amount& moment : p.moments) fullest = std::max(fullest, moment.value);
    EXPECT_DOUBLE_EQ(sum, p.peak);
    EXPECT_DOUBLE_EQ(fullest, p.peak);
    EXPECT_DOUBLE_EQ(amount(p.moments, p.fullest), p.peak);
    EXPECT_DOUBLE_EQ(amount(p.gpu.moments, p.gpu.fullest), p.gpu.peak);
  }
}

TEST(Plan, CountsThePassesOfTheMethodsFormula) {
  AlignConfig c = nano();
  c.value.kind = ValueKind::kNone;
  const Plan p = plan(c, read_model_shape(c.flow));
  EXPECT_EQ(p.passes.f, 16 * 20 * 2 + 16 * 5 * 3);
  EXPECT_EQ(p.passes.b, 16 * 5);
  EXPECT_EQ(p.cost_formula, "B N 2F + 5 B (3F + 1B)");
}

TEST(Plan, WorksForEveryMethod) {
  AlignConfig c = preset("sd3-medium/aesthetic.yaml");
  c.value.kind = ValueKind::kAuto;
  for (const std::string& method : method_names()) {
    c.method = method;
    const Plan p = plan(c, read_model_shape(c.flow));
    EXPECT_GT(p.peak, 5e9) << method;
    EXPECT_GT(p.half_flops, 32 * 20 * 2 * 8e12) << method;
  }
}

// Rollouts of a lagged policy run on merged weights of their own.
TEST(Plan, OffersNoSwitchThatTheMethodRefuses) {
  AlignConfig c = nano();
  c.value.kind = ValueKind::kNone;
  const ModelShape shape = read_model_shape(c.flow);
  const auto offers = [&](const std::string& method) {
    c.method = method;
    const auto all = switches(c, shape);
    return std::ranges::any_of(all, [](const Switch& s) { return s.setting == "merge=false"; });
  };
  EXPECT_TRUE(offers("vgg-flow"));
  EXPECT_FALSE(offers("ram"));
}

TEST(Plan, FindsThatEachSwitchSavesWhatItSays) {
  const AlignConfig c = [] {
    AlignConfig large = preset("sd3-medium/aesthetic.yaml");
    large.micro_batch = 8;
    return large;
  }();
  const ModelShape shape = read_model_shape(c.flow);
  const Plan before = plan(c, shape);
  for (const Switch& s : switches(c, shape)) {
    EXPECT_LE(s.plan.peak, before.peak) << s.setting;
    const bool less_work = s.setting.find("=none") != std::string::npos ||
                           s.setting.starts_with("guidance") || s.setting.starts_with("sd3.");
    if (less_work) {
      EXPECT_LT(s.plan.half_flops + s.plan.full_flops, before.half_flops + before.full_flops)
          << s.setting;
    }
    if (s.setting == "checkpointing=true") {
      EXPECT_GT(s.plan.half_flops, before.half_flops);
      EXPECT_LT(s.plan.peak, before.peak);
    }
  }
}

TEST(Plan, SaysForPeopleAndForProgramsWhatFits) {
  const AlignConfig c = preset("sd3-medium/aesthetic-release.yaml");
  const ModelShape shape = read_model_shape(c.flow);
  const Plan p = plan(c, shape);
  const std::vector<Device> devices{{"tiny", 1e9, 1e12, 1e12}, {"vast", 1e15, 1e15, 1e15}};
  EXPECT_LT(p.gpu.peak, p.peak) << "its allocator leaves smaller holes";
  const std::string text = plan_text(c, shape, p, switches(c, shape), devices);
  for (const char* what : {"1024x1024 pixels", "TAESD3", "memory at the fullest moment",
                           "merge=false", "fits on", "tiny", "GiB on a GPU (rollout)"})
    EXPECT_THAT(text, HasSubstr(what));
  const Json json = plan_json(p, switches(c, shape), devices);
  const Json flat = json.flatten();
  for (const auto& [path, value] : flat.items()) {
    if (path.find("bytes") != std::string::npos || path.starts_with("/parameters")) {
      EXPECT_TRUE(value.is_number_integer()) << path << " " << value;
    }
  }
  EXPECT_NEAR(json["peak_bytes"].get<double>(), p.peak, 0.5);
  EXPECT_NEAR(json["gpu"]["peak_bytes"].get<double>(), p.gpu.peak, 0.5);
  EXPECT_FALSE(json["devices"]["tiny"]["fits"].get<bool>());
  EXPECT_TRUE(json["devices"]["vast"]["fits"].get<bool>());
  EXPECT_EQ(json["devices"]["vast"]["seconds_per_update"].get<double>(), p.seconds(devices[1]));
}

// A GPU that this LibTorch cannot compute on was "yes" for its memory.
TEST(Plan, SaysNoOfHardwareThatTheProgramCannotUse) {
  const AlignConfig c = preset("sd3-medium/aesthetic.yaml");
  const ModelShape shape = read_model_shape(c.flow);
  const Plan p = plan(c, shape);
  const std::vector<Device> devices{{"card", 1e15, 1e15, 1e15, "this LibTorch has no CUDA"}};
  const std::string text = plan_text(c, shape, p, switches(c, shape), devices);
  EXPECT_THAT(text, HasSubstr("no: this LibTorch has no CUDA\n"));
  EXPECT_THAT(text, HasSubstr("none of these"));
  const Json json = plan_json(p, {}, devices);
  EXPECT_FALSE(json["devices"]["card"]["fits"].get<bool>());
  EXPECT_TRUE(json["devices"]["card"]["memory_fits"].get<bool>());
  for (const Device& d : known_devices("nothing")) EXPECT_EQ(d.lacks, "nothing") << d.name;
}

// The tiny decoder draws other images, and bf16 other numbers.
TEST(Plan, CallsNoSwitchHarmlessThatChangesImages) {
  const AlignConfig c = preset("sd3-medium/aesthetic.yaml");
  const std::vector<Switch> all = switches(c, read_model_shape(c.flow));
  const auto offered = [&](const std::string& setting) {
    return std::any_of(all.begin(), all.end(),
                       [&](const Switch& s) { return s.setting == setting; });
  };
  EXPECT_TRUE(offered("sd3.decoder=taesd3"));
  EXPECT_EQ(all.back().setting.find("decoder"), std::string::npos) << all.back().setting;
  EXPECT_EQ(all.back().setting.find("bf16"), std::string::npos) << all.back().setting;
}

// Of Stable Diffusion 3 and of nano, with all that a run would need but for its one mistake.
struct Refusal {
  const char* model;
  void (*mistake)(AlignConfig& c);
  const char* message;
};

AlignConfig tiny_sd3() {
  AlignConfig c;
  c.flow.model = testing::models_testdata("sd3_tiny").string();
  c.flow.sd3.height = c.flow.sd3.width = 16;
  c.reward = "colorfulness";
  c.prompts.classes = {"cat", "dog"};
  c.eval.prompts = 2;
  return c;
}

TEST(Plan, RefusesWhatAlignRefusesBeforeAnythingIsLoaded) {
  const Refusal refusals[]{
      {"nano", [](AlignConfig& c) { c.method = "refl", c.value.kind = ValueKind::kUnet; },
       "[align] refl trains no value network, got value.kind=unet: expected none or auto"},
      {"nano", [](AlignConfig& c) { c.method = "draft", c.methods.set("draft", "k=50"); },
       "[draft] expected draft.k of at most 20 (the steps), got 50"},
      {"nano", [](AlignConfig& c) { c.method = "refl", c.methods.set("refl", "k_max=40"); },
       "[refl] expected 0 <= refl.k_min <= refl.k_max < 20 (the steps), got"},
      {"nano", [](AlignConfig& c) { c.time_grid.steps = 4; },
       "[transitions] expected at most 4 bins for 4 steps, got 5"},
      {"nano",
       [](AlignConfig& c) {
         c.method = "fitted-adjoint", c.methods.set("fitted-adjoint", "bins=21");
       },
       "[transitions] expected at most 20 bins for 20 steps, got 21"},
      {"nano", [](AlignConfig& c) { c.lora_targets.push_back("nothing.*"); },
       "[lora] target 'nothing.*' matches no linear layer; the layers are: "},
      {"nano", [](AlignConfig& c) { c.flow.sd3.width = 64; },
       "is a nano model, which has no sd3.width"},
      {"nano",
       [](AlignConfig& c) {
         c.time_grid.kind = GridKind::kExplicit, c.time_grid.sigmas = {1, 0.5, 0.6, 0.3, 0.2};
       },
       "[time_grid] expected strictly decreasing noise levels"},
      {"nano", [](AlignConfig& c) { c.reward = "aesthetc"; },
       "[reward] unknown reward 'aesthetc'; known are aesthetic, "},
      {"nano", [](AlignConfig& c) { c.eval.panel = {"pikscore"}; },
       "[reward] unknown reward 'pikscore'; known are aesthetic, "},
      {"nano", [](AlignConfig& c) { c.eval.prompts = 1, c.eval.images = 2; },
       "[eval] expected eval.prompts times eval.images to be 4 at least"},
      {"nano", [](AlignConfig& c) { c.prompts.eval = "eval.txt"; },
       "[align] expected prompts.train, the prompts to train on, besides prompts.eval=eval.txt"},
      {"sd3", [](AlignConfig& c) { c.flow.sd3.height = 18; },
       "[sd3] expected height and width in multiples of 4 up to 48, got 18"},
      {"sd3",
       [](AlignConfig& c) { c.flow.sd3.decoder = Sd3Decoder::kTaesd3, c.flow.sd3.tiling = true; },
       "[sd3] expected tiling with decoder=vae only: TAESD3 needs none"},
      {"sd3",
       [](AlignConfig& c) {
         c.flow.sd3.height = 20, c.value.kind = ValueKind::kUnet, c.value.width = 32,
         c.value.layers = 3;
       },
       "[value_unet] expected states that halve 2 times, got 10 x 8"}};
  const testing::TemporaryFolder folder;
  for (const Refusal& r : refusals) {
    AlignConfig c = r.model == std::string("nano") ? nano() : tiny_sd3();
    EXPECT_EQ(message_of([&] { plan(c, read_model_shape(c.flow)); }), "no error")
        << "but for its mistake: " << r.message;
    r.mistake(c);
    c.run = (folder / "run").string();
    EXPECT_THAT(message_of([&] { plan(c, read_model_shape(c.flow)); }), HasSubstr(r.message));
    EXPECT_THAT(message_of([&] { align(c); }), HasSubstr(r.message));
    EXPECT_FALSE(fs::exists(folder / "run")) << "something was made before: " << r.message;
  }
}

TEST(Plan, OnlyNotesWhatAlignRefusesForWantOfPrompts) {
  const char* message =
      "since the emoji's captions and judge are the nano model's alone: pass prompts.train=FILE to "
      "train on and prompts.eval=FILE to evaluate on";
  AlignConfig c = tiny_sd3();
  EXPECT_TRUE(plan(c, read_model_shape(c.flow)).notes.empty());
  c.prompts = {};
  for (const int64_t side : {16, 32}) {  // 32 is what the emoji's judge would take
    c.flow.sd3.height = c.flow.sd3.width = side;
    EXPECT_THAT(message_of([&] { align(c); }), HasSubstr(message));
  }
  const Plan p = plan(c, read_model_shape(c.flow));
  ASSERT_EQ(p.notes.size(), 1u);
  EXPECT_THAT(p.notes[0], HasSubstr("align will ask for prompts.train"));
  EXPECT_TRUE(plan(nano(), read_model_shape(nano().flow)).notes.empty());
}

// HF_HUB_CACHE is set while one lives.
struct HubCache {
  explicit HubCache(const fs::path& folder) { ::setenv("HF_HUB_CACHE", folder.c_str(), 1); }
  ~HubCache() { ::unsetenv("HF_HUB_CACHE"); }
};

TEST(Plan, TakesPublishedSizesOnlyOfAReleaseThatIsNotThere) {
  const testing::TemporaryFolder cache;
  const HubCache scope(cache.path());
  ModelOptions o;
  o.model = "stabilityai/stable-diffusion-3-medium-diffusers";
  EXPECT_THAT(read_model_shape(o).description,
              HasSubstr("not on this machine, its published sizes are taken"));
  const fs::path repo = cache / "models--stabilityai--stable-diffusion-3-medium-diffusers";
  fs::create_directories(repo / "snapshots/abc");
  EXPECT_THAT(message_of([&] { read_model_shape(o); }),
              HasSubstr("has no snapshot of revision 'main'"));
  o.sd3.revision = "abc";
  EXPECT_THAT(message_of([&] { read_model_shape(o); }),
              HasSubstr("snapshots/abc/model_index.json does not exist"));
  o = {};
  o.model = "/nowhere/stable-diffusion-3-medium";
  EXPECT_THAT(message_of([&] { read_model_shape(o); }),
              HasSubstr("'/nowhere/stable-diffusion-3-medium' is no folder and no repository id "
                        "(org/name); check the path"));
  o.model = cache.path().string();
  EXPECT_THAT(message_of([&] { read_model_shape(o); }),
              HasSubstr("is no model: expected vocabulary.txt (nano) or model_index.json"));
  o.model = "somebody/else";
  EXPECT_THAT(message_of([&] { read_model_shape(o); }),
              HasSubstr("'somebody/else' is neither a folder nor in the Hugging Face cache"));
}

// Micro-batches as the paper's code has them: the reward's own graph is what recomputing saves.
TEST(Plan, CountsWhatTheSettingsOfRewardsSave) {
  AlignConfig c = preset("sd3-medium/hpsv2.yaml");
  c.flow.checkpointing = true;
  c.flow.sd3.decoder = Sd3Decoder::kTaesd3;
  c.flow.sd3.height = c.flow.sd3.width = 256;
  c.micro_batch = 32;
  const ModelShape shape = read_model_shape(c.flow);
  const Plan before = plan(c, shape);
  AlignConfig again = c, fast = c;
  again.reward_files.reward_recompute = true;
  fast.reward_files.reward_dtype = RewardDtype::kBf16;
  // 32 layers keep 6 and 8 widths a token of 257; run again, the input alone and one layer whole.
  EXPECT_LT(amount(plan(again, shape).moments, "reward"),
            amount(before.moments, "reward") - 32 * 30 * 257 * 1280 * 4.0 * 10);
  EXPECT_GT(plan(again, shape).full_flops, before.full_flops);
  EXPECT_NEAR(amount(plan(fast, shape).memory, "reward"), amount(before.memory, "reward") / 2, 1);
  EXPECT_LT(amount(plan(fast, shape).moments, "reward"), amount(before.moments, "reward"));
  EXPECT_LT(plan(fast, shape).full_flops, before.full_flops);
  const auto offers = [&](const AlignConfig& from, const std::string& setting) {
    const auto all = switches(from, shape);
    return std::any_of(all.begin(), all.end(),
                       [&](const Switch& s) { return s.setting == setting; });
  };
  EXPECT_TRUE(offers(c, "reward_recompute=true"));
  EXPECT_FALSE(offers(again, "reward_recompute=true"));
  c.reward = "colorfulness";
  EXPECT_FALSE(offers(c, "reward_recompute=true"));
}

TEST(Plan, CountsThePanelOfEvaluations) {
  AlignConfig c = preset("sd3-medium/aesthetic.yaml");
  const ModelShape shape = read_model_shape(c.flow);
  const Plan before = plan(c, shape);
  c.eval.panel = {"aesthetic", "pickscore"};  // the first is trained on, and not loaded twice
  const Plan with = plan(c, shape);
  EXPECT_NEAR(amount(with.parameters, "panel"), 0.99e9, 0.02e9);
  EXPECT_NEAR(amount(with.memory, "panel"), 4 * amount(with.parameters, "panel"), 1);
  EXPECT_GT(with.peak, before.peak + 3.9e9);
  c.eval.panel = {"plugin:mine.so"};
  EXPECT_THAT(plan(c, shape).notes.front(), HasSubstr("'plugin:mine.so' are not known"));
}

TEST(Plan, CountsTheDecoderOfALatentNano) {
  const testing::TemporaryFolder folder;
  const fs::path latent = folder / "latent";
  NanoOptions options;
  options.decoder = NanoDecoder::kTaesd3;
  options.network = {.sample_size = 8,
                     .channels = 16,
                     .patch_size = 2,
                     .layers = 2,
                     .heads = 2,
                     .head_dim = 48,
                     .context_dim = 96,
                     .pooled_dim = 96,
                     .pos_embed_max = 4};
  NanoModel(options, Vocabulary::load(kSource / "models/nano/vocabulary.txt")).save(latent, {});
  AlignConfig c = nano();
  c.flow.model = latent.string();
  c.prompts.classes = {"cat", "dog"};
  const ModelShape shape = read_model_shape(c.flow);
  const Plan p = plan(c, shape);
  EXPECT_EQ(amount(p.parameters, "TAESD3"), taesd_decoder_parameters({}));
  EXPECT_EQ(amount(p.memory, "TAESD3"), 4 * taesd_decoder_parameters({}));
  EXPECT_EQ(amount(p.memory, "emoji and judges"), 0);
  EXPECT_GT(amount(p.work, "decoder and reward"), 16 * taesd_decoder_cost({}, 8, 8, false).forward);
  EXPECT_THAT(plan_text(c, shape, p, {}, known_devices("")), HasSubstr("64x64 pixels"));
}

// An image takes eval_steps guided steps, the decoder and every reward that scores it; the base is
// drawn twice.
TEST(Plan, CountsTheImagesOfEvaluations) {
  AlignConfig c = preset("sd3-medium/hpsv2.yaml");
  c.updates = 10, c.eval_every = 4, c.eval_steps = 20, c.eval.prompts = 3, c.eval.images = 5;
  EXPECT_EQ(evaluated_images(c).base, 2 * 15);
  EXPECT_EQ(evaluated_images(c).run, 3 * 15);
  const ModelShape shape = read_model_shape(c.flow);
  const Plan p = plan(c, shape);
  AlignConfig twice = c, alone = c;
  twice.eval_steps = 40;
  alone.problem.guidance = 1;
  const double steps = plan(twice, shape).image_half_flops - p.image_half_flops;
  EXPECT_NEAR(steps, p.image_half_flops, 1e-9 * steps) << "fp32 rewards take none of bf16's rate";
  EXPECT_NEAR(plan(alone, shape).image_half_flops, steps / 2, 1e-9 * steps);
  // A rollout of VGG-Flow's update takes as many passes a trajectory as an image of 20 steps.
  EXPECT_NEAR(steps / 40, p.half_flops / p.passes.f, 0.5 * steps / 40);
  AlignConfig judged = c;
  judged.eval.panel = {"pickscore"};
  EXPECT_GT(plan(judged, shape).image_full_flops, p.image_full_flops + 1e11);
  const ArmPlan arm{"one", 3, 10, evaluated_images(c), p};
  const std::vector<Device> devices{{"fast", 1e15, 1e12, 1e12}, {"small", 1, 1e12, 1e12}};
  EXPECT_NEAR(
      arm.seconds(devices[0]),
      (10 * (p.half_flops + p.full_flops) + 45 * (p.image_half_flops + p.image_full_flops)) / 1e12,
      1e-6 * arm.seconds(devices[0]));
  EXPECT_NEAR(arm.all_seconds(devices[0]) - 3 * arm.seconds(devices[0]),
              30 * (p.image_half_flops + p.image_full_flops) / 1e12,
              1e-6 * arm.seconds(devices[0]));
  const std::string text = arms_text({arm, arm}, devices);
  EXPECT_THAT(text, HasSubstr("6 runs, one after the other"));
  EXPECT_THAT(text, HasSubstr("too little memory for 2 of 2 arms")) << text;
  EXPECT_THAT(text, HasSubstr(duration_text(2 * arm.all_seconds(devices[0])))) << text;
}

// The batch that evaluations take by themselves: 64 of nano's, and one image of 1024 x 1024 pixels.
TEST(Plan, EvaluatesAsManyAtOnceAsAlignDoes) {
  const auto evaluation = [](AlignConfig c, int64_t batch) {
    c.eval.batch = batch;
    return amount(plan(c, read_model_shape(c.flow)).moments, "evaluation");
  };
  EXPECT_EQ(evaluation(nano(), 0), evaluation(nano(), 64));
  AlignConfig large = preset("sd3-medium/aesthetic.yaml");
  EXPECT_EQ(evaluation(large, 0), evaluation(large, 1));
  EXPECT_GT(evaluation(large, 64), evaluation(large, 0) + 1e9);
  large.flow.sd3.height = large.flow.sd3.width = 512;
  EXPECT_EQ(evaluation(large, 0), evaluation(large, 4));
}

// The release presets train a LoRA copy of SD3 as value network: its boundary term runs in
// micro-batches as everything else does.
TEST(Plan, CountsTheBoundaryTermInMicroBatches) {
  AlignConfig c = preset("sd3-medium/aesthetic-release.yaml");
  const ModelShape shape = read_model_shape(c.flow);
  const double one = amount(plan(c, shape).moments, "boundary");
  c.micro_batch = 32;
  EXPECT_GT(amount(plan(c, shape).moments, "boundary"), one + 1e9);
  c.methods.of<VggFlowOptions>().boundary = false;
  EXPECT_EQ(amount(plan(c, shape).moments, "boundary"), 0);
}

// Four of six steps (two of the tail, two of the others): eight trajectories make 32 transitions,
// fewer than a micro-batch holds.
TEST(Plan, CountsTheStepsThatAdjointMatchingTrains) {
  AlignConfig c = nano();
  c.method = "adjoint-matching";
  c.time_grid.steps = 6;
  c.batch = 8;
  const ModelShape shape = read_model_shape(c.flow);
  c.micro_batch = 32;
  const double whole = amount(plan(c, shape).moments, "training");
  c.micro_batch = 80;
  EXPECT_EQ(amount(plan(c, shape).moments, "training"), whole);
  c.micro_batch = 12;
  EXPECT_LT(amount(plan(c, shape).moments, "training"), whole);
}

// Classifiers at 224 x 224: MobileNetV1's 3.2 million numbers and 1.1 GFLOP, in fp32 whatever the
// large rewards run in.
TEST(Plan, CountsRewardsOfConvolutions) {
  AlignConfig c = nano();
  const ModelShape shape = read_model_shape(c.flow);
  const Plan before = plan(c, shape);
  for (const char* name : {"class-head", "mobilenet-class", "nima-aesthetic", "nima-technical"}) {
    c.reward = name;
    c.reward_files.reward_dtype = RewardDtype::kBf16;
    const Plan p = plan(c, shape);
    EXPECT_TRUE(p.notes.empty()) << name;
    EXPECT_GT(amount(p.parameters, "reward"), 2e6) << name;
    EXPECT_EQ(amount(p.memory, "reward"), 4 * amount(p.parameters, "reward")) << name;
    EXPECT_GT(p.full_flops, before.full_flops + 16 * 0.1e9) << name;
    for (const Switch& s : switches(c, shape)) EXPECT_FALSE(s.setting.starts_with("reward_"));
  }
}

TEST(Plan, NotesRewardsWhoseSizesItDoesNotKnow) {
  AlignConfig c = nano();
  c.reward = "plugin:mine.so";
  const Plan p = plan(c, read_model_shape(c.flow));
  ASSERT_EQ(p.notes.size(), 1u);
  EXPECT_THAT(p.notes[0], HasSubstr("'plugin:mine.so' are not known"));
}

TEST(Plan, TakesTheGivenRateOfThisMachine) {
  const Device machine = this_machine(at::kFloat, 1e12);
  EXPECT_DOUBLE_EQ(machine.half, 0.5e12);
  EXPECT_GT(machine.memory, 1e9);
}

}  // namespace
}  // namespace vggflow
