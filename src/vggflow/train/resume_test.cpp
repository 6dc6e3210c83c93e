// Starting, stopping and going on: what a resumed run compares with and writes, what it may change,
// and what a start that fails leaves behind.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <functional>
#include <map>

#include "vggflow/core/config.h"
#include "vggflow/core/error.h"
#include "vggflow/core/interrupt.h"
#include "vggflow/core/log.h"
#include "vggflow/families/lora.h"
#include "vggflow/io/files.h"
#include "vggflow/io/folder_lock.h"
#include "vggflow/io/safetensors.h"
#include "vggflow/testing/message.h"
#include "vggflow/train/align.h"
#include "vggflow/train/align_fixture_test.h"
#include "vggflow/train/checkpoint.h"
#include "vggflow/train/monitor.h"
#include "vggflow/train/run_control.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using testing::expect_same_tensors;
using ::testing::HasSubstr;
using testing::lines_of;
using testing::message_of;
using testing::models;

AlignConfig quick(const std::string& name) {
  AlignConfig c = testing::tiny_config(name);
  c.value.kind = ValueKind::kNone;
  return c;
}

AlignConfig longer(AlignConfig c, int64_t updates) {
  c.resume = true;
  c.updates = updates;
  return c;
}

Json summary_of(const AlignConfig& c) {
  return Json::parse(read_text(fs::path(c.run) / "summary.json"));
}

// Every file of a folder with its bytes.
std::map<std::string, std::string> contents(const fs::path& folder) {
  std::map<std::string, std::string> all;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) all[entry.path().string()] = read_text(entry.path());
  }
  return all;
}

// Fresh runs sample the base as rollouts are guided; resumed ones once took the guidance of the
// regression's base, and so compared with other images.
TEST(Resume, MeasuresTheBaseOfTheStartWhereverGuidanceActs) {
  AlignConfig whole = quick("rollout_whole"), halves = quick("rollout_halves");
  for (AlignConfig* c : {&whole, &halves}) {
    c->problem.guidance_in = {GuidedCall::kRollout};
    c->problem.guidance = 6;
    c->eval_every = 2;
  }
  ASSERT_EQ(align(whole), RunEnd::kFinished);
  halves.updates = 2;
  ASSERT_EQ(align(halves), RunEnd::kFinished);
  halves = longer(halves, 4);
  ASSERT_EQ(align(halves), RunEnd::kFinished);
  EXPECT_EQ(lines_of(halves.run, "eval"), lines_of(whole.run, "eval"));
  EXPECT_EQ(lines_of(halves.run, "warning"), lines_of(whole.run, "warning"));
  const Json a = summary_of(whole), b = summary_of(halves);
  for (const char* key : {"base", "final", "reward_gain_sd", "diversity_kept", "passes",
                          "expected_passes", "cost_formula"})
    EXPECT_EQ(a[key], b[key]) << key;
  EXPECT_EQ(a.contains("best"), b.contains("best"));
}

TEST(Resume, RefusesABaseThatIsNotTheStarts) {
  Evaluation now;
  now.reward.mean = 1;
  now.reward_sd_within_prompt = 0.5;
  now.diversity.mean = 0.4;
  now.fd_floor = 26.14;
  const Json stored = now.to_json();
  EXPECT_NO_THROW(check_same_base(stored, now));
  now.reward.mean = 1.04;  // rounding
  EXPECT_NO_THROW(check_same_base(stored, now));
  now.fd_floor = 82.41;
  EXPECT_THAT(
      message_of([&] { check_same_base(stored, now); }),
      HasSubstr("FD floor 26.14), got others (reward 1.04, diversity 0.4, FD floor 82.41)"));
}

TEST(Resume, SaysOfAFinishedRunThatItIsAndLeavesItAsItIs) {
  AlignConfig c = quick("finished");
  c.updates = 2;
  ASSERT_EQ(align(c), RunEnd::kFinished);
  open_log(models() / "another.txt");  // the process that finished it is gone
  const auto before = contents(c.run);
  c.resume = true;
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(align(c), RunEnd::kFinishedBefore);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              HasSubstr("is finished after update 2: nothing was changed"));
  EXPECT_EQ(contents(c.run), before);
}

// The process died after the last checkpoint, before the summary was there.
TEST(Resume, WritesTheSummaryOfTheLastEvaluationWhereOnlyThatIsMissing) {
  AlignConfig c = quick("died_late");
  ASSERT_EQ(align(c), RunEnd::kFinished);
  const fs::path run = c.run;
  Json whole = summary_of(c);
  fs::remove(run / "summary.json");
  fs::rename(run / "lora.safetensors", run / "lora_before.safetensors");
  c.resume = true;
  ASSERT_EQ(align(c), RunEnd::kFinished);
  Json again = summary_of(c);
  for (Json* summary : {&whole, &again}) {
    summary->erase("peak_gib");
    summary->erase("date");  // to the minute
  }
  EXPECT_EQ(again, whole);
  EXPECT_EQ(again["final"], lines_of(c.run, "eval").back()["metrics"]);
  expect_same_tensors(run / "lora.safetensors", run / "lora_before.safetensors");
}

TEST(Resume, AddsTheSecondsOfAllProcessesUp) {
  AlignConfig c = quick("seconds");
  c.updates = 2;
  ASSERT_EQ(align(c), RunEnd::kFinished);
  ASSERT_EQ(align(c = longer(c, 4)), RunEnd::kFinished);
  std::map<std::string, double> sums;
  for (const Json& line : read_json_lines(fs::path(c.run) / "metrics.jsonl")) {
    if (line["kind"] == "eval") sums["evaluation"] += line["seconds"].get<double>();
    if (line["kind"] != "update") continue;
    for (const auto& [phase, seconds] : line["seconds"].items())
      sums[phase] += seconds.get<double>();
  }
  const Json seconds = summary_of(c)["seconds"];
  ASSERT_EQ(seconds.size(), sums.size());
  for (const auto& [phase, sum] : sums)
    EXPECT_DOUBLE_EQ(seconds[phase].get<double>(), sum) << phase;
}

// Ctrl-C does not wait for the evaluation of its last update.
TEST(Resume, MakesUpForAnEvaluationThatWasLeftOut) {
  AlignConfig whole = quick("missed_whole"), halves = quick("missed_halves");
  whole.eval_every = halves.eval_every = halves.updates = 2;
  ASSERT_EQ(align(whole), RunEnd::kFinished);
  ASSERT_EQ(align(halves), RunEnd::kFinished);
  const fs::path metrics = fs::path(halves.run) / "metrics.jsonl";
  std::string kept;
  for (const Json& line : read_json_lines(metrics)) {
    if (line["kind"] == "update" || line["update"] == 0) kept += line.dump() + "\n";
  }
  write_text(metrics, kept);
  ASSERT_EQ(align(halves = longer(halves, 4)), RunEnd::kFinished);
  EXPECT_EQ(lines_of(halves.run, "eval"), lines_of(whole.run, "eval"));
  EXPECT_EQ(lines_of(halves.run, "update"), lines_of(whole.run, "update"));
}

TEST(Resume, MayChangeEvaluationsAndWhatChangesNumbersByRoundingAlone) {
  AlignConfig c = quick("changed");
  c.updates = 2;
  ASSERT_EQ(align(c), RunEnd::kFinished);
  c = longer(c, 4);
  c.eval.images = 5;
  c.micro_batch = 2;
  ASSERT_EQ(align(c), RunEnd::kFinished);
  const std::string log = read_text(fs::path(c.run) / "log.txt");
  EXPECT_THAT(log, HasSubstr("going on after update 2\n"));
  EXPECT_THAT(log,
              HasSubstr("micro_batch changed since the run's start: its numbers may now differ "
                        "by rounding\n"));
  EXPECT_THAT(log, HasSubstr("the base is measured anew"));
  EXPECT_EQ(lines_of(c.run, "eval").back()["images_per_prompt"], 5);
  EXPECT_THAT(read_text(fs::path(c.run) / "config.yaml"), HasSubstr("micro_batch: 2 "));
}

// lambda's unit is what the run's start measured, not what a later evaluation does.
TEST(Resume, KeepsTheSpreadThatLambdaIsIn) {
  AlignConfig whole = quick("spread_whole"), halves = quick("spread_halves");
  for (AlignConfig* c : {&whole, &halves}) {
    c->method = "adjoint-matching";
    c->eval.panel = {};
  }
  halves.updates = 2;
  ASSERT_EQ(align(whole), RunEnd::kFinished);
  ASSERT_EQ(align(halves), RunEnd::kFinished);
  halves = longer(halves, 4);
  halves.eval.images += 1;
  ASSERT_EQ(align(halves), RunEnd::kFinished);
  EXPECT_EQ(lines_of(halves.run, "update"), lines_of(whole.run, "update"));
  expect_same_tensors(fs::path(halves.run) / "lora.safetensors",
                      fs::path(whole.run) / "lora.safetensors");
}

// A run that was begun with lambda in the reward's own units goes on so.
TEST(Resume, KeepsLambdaInUnitsOfTheRewardWhereTheRunWasBegunSo) {
  AlignConfig reward = quick("lambda_of_reward"), old = quick("lambda_of_old");
  for (AlignConfig* c : {&reward, &old}) {
    c->method = "adjoint-matching";
    c->methods.set(c->method, "lambda_unit=reward lambda=3");
    c->updates = 2;
    ASSERT_EQ(align(*c), RunEnd::kFinished);
  }
  ASSERT_EQ(align(reward = longer(reward, 4)), RunEnd::kFinished);
  const fs::path config = fs::path(old.run) / "config.yaml";
  std::string text = read_text(config);
  const size_t word = text.find("  lambda_unit: ", text.find("adjoint_matching:"));
  ASSERT_NE(word, std::string::npos);
  text.erase(text.rfind('\n', word), text.find('\n', word) - text.rfind('\n', word));
  write_text(config, text);
  old.methods.set(old.method, "lambda_unit=spread");
  ASSERT_EQ(align(old = longer(old, 4)), RunEnd::kFinished);
  EXPECT_EQ(lines_of(old.run, "update"), lines_of(reward.run, "update"));
  EXPECT_THAT(read_text(fs::path(old.run) / "log.txt"),
              HasSubstr("lambda stays in units of the reward"));
}

// What a run was guided by in so many words is what its method asks for, or is refused by name.
TEST(Resume, TakesGuidanceInWordsForTheMethodsOwn) {
  AlignConfig c = quick("guided_in_words");
  c.updates = 2;
  c.problem.guidance_in = ImageProblemOptions{}.guidance_in;
  ASSERT_EQ(align(c), RunEnd::kFinished);
  AlignConfig other = longer(c, 4);
  other.problem.guidance_in = {GuidedCall::kRollout};
  EXPECT_THAT(message_of([&] { align(other); }), HasSubstr("guidance_in"));
  c = longer(c, 4);
  c.problem.guidance_in = {GuidedCall::kAuto};
  EXPECT_EQ(align(c), RunEnd::kFinished);
}

// A run of shares is one whose numbers are to be the same however it is computed.
TEST(Resume, OfSharesRefusesWhatChangesNumbersByRoundingUnlessItIsAllowed) {
  AlignConfig c = quick("changed_shares");
  c.shares = 3;
  c.updates = 2;
  ASSERT_EQ(align(c), RunEnd::kFinished);
  AlignConfig parts = longer(c, 4);
  parts.micro_batch = 2;
  EXPECT_THAT(message_of([&] { align(parts); }),
              AllOf(HasSubstr("expected micro_batch to be as at the start of"),
                    HasSubstr("put back what differs, or pass rounding=allow")));
  AlignConfig threads = longer(c, 4);
  const int before = at::get_num_threads();
  at::set_num_threads(before + 1);
  EXPECT_THAT(message_of([&] { align(threads); }),
              AllOf(HasSubstr(fmt::format("expected threads={}, as before", before)),
                    HasSubstr(fmt::format("got {}; pass threads={} or rounding=allow", before + 1,
                                          before))));
  at::set_num_threads(before);
  parts.rounding = Rounding::kAllow;
  EXPECT_EQ(align(parts), RunEnd::kFinished);
  EXPECT_THAT(read_text(fs::path(c.run) / "log.txt"),
              HasSubstr("micro_batch changed since the run's start: its numbers may now differ"));
}

TEST(Resume, OfOneProcessRefusesToRoundOtherwiseWhereItIsTold) {
  AlignConfig c = quick("changed_refused");
  c.updates = 2;
  ASSERT_EQ(align(c), RunEnd::kFinished);
  c = longer(c, 4);
  c.flow.checkpointing = !c.flow.checkpointing;
  c.rounding = Rounding::kRefuse;
  EXPECT_THAT(message_of([&] { align(c); }),
              HasSubstr("expected checkpointing to be as at the start of"));
}

void flip_bit(const fs::path& file, size_t byte) {
  std::string bytes = read_text(file);
  bytes.at(byte) = static_cast<char>(bytes.at(byte) ^ 4);
  write_text(file, bytes);
}

// Every file of the checkpoint, from its first byte to its last.
TEST(Checkpoints, WithAFlippedBitGiveWayToTheOneBefore) {
  const fs::path run = models() / "flipped";
  for (const int64_t update : {2, 4}) save_checkpoint(run, {update, {{"a", at::rand({50})}}, {}});
  const fs::path newest = run / "checkpoints/update_000004";
  int tried = 0;
  for (const char* name : {"state.safetensors", "checkpoint.json"}) {
    const size_t size = fs::file_size(newest / name);
    for (size_t byte = 0; byte < size; byte += 7, ++tried) {
      flip_bit(newest / name, byte);
      ::testing::internal::CaptureStderr();
      EXPECT_EQ(load_checkpoint(run)->update, 2) << name << " " << byte;
      EXPECT_THAT(::testing::internal::GetCapturedStderr(),
                  HasSubstr("the checkpoint of update 4 cannot be used, and the one before is"));
      flip_bit(newest / name, byte);
    }
  }
  EXPECT_GT(tried, 40);
  EXPECT_EQ(load_checkpoint(run)->update, 4);
}

TEST(Checkpoints, ThatAreNotCompleteAreLeftOutInSoManyWords) {
  const fs::path run = models() / "unfinished";
  for (const int64_t update : {2, 4}) save_checkpoint(run, {update, {{"a", at::rand({5})}}, {}});
  fs::remove(run / "checkpoints/update_000004/COMPLETE");
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(load_checkpoint(run)->update, 2);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              HasSubstr("the checkpoint of update 4 is not complete, and is left out"));
}

TEST(Checkpoints, ThatAreAllDamagedSayWhatToDo) {
  const fs::path run = models() / "all_damaged";
  for (const int64_t update : {2, 4}) save_checkpoint(run, {update, {{"a", at::rand({5})}}, {}});
  for (const auto& entry : fs::directory_iterator(run / "checkpoints"))
    fs::remove(entry.path() / "checkpoint.json");
  EXPECT_THAT(message_of([&] { load_checkpoint(run); }),
              AllOf(HasSubstr("no checkpoint of "), HasSubstr("update_000004 has lost its"),
                    HasSubstr("Put a copy of one back, or start a new run")));
}

TEST(Resume, GoesBackToTheCheckpointBeforeADamagedOne) {
  AlignConfig whole = quick("damage_whole"), damaged = quick("damage");
  whole.updates = 6;
  whole.eval_every = damaged.eval_every = 2;
  ASSERT_EQ(align(whole), RunEnd::kFinished);
  ASSERT_EQ(align(damaged), RunEnd::kFinished);
  const fs::path run = damaged.run;
  flip_bit(run / "checkpoints/update_000004/state.safetensors", 1000);
  ASSERT_EQ(align(damaged = longer(damaged, 6)), RunEnd::kFinished);
  EXPECT_THAT(read_text(run / "log.txt"), HasSubstr("going on after update 2\n"));
  expect_same_tensors(fs::path(whole.run) / "lora.safetensors", run / "lora.safetensors");
  for (const char* kind : {"update", "eval", "warning"})
    EXPECT_EQ(lines_of(damaged.run, kind), lines_of(whole.run, kind)) << kind;
}

// The process died between an evaluation's line and the checkpoint that knows of it.
TEST(Resume, EvaluatesAgainWhatTheCheckpointDoesNotKnow) {
  AlignConfig c = quick("evaluated");
  c.updates = c.eval_every = 2;
  ASSERT_EQ(align(c), RunEnd::kFinished);
  const auto lines = lines_of(c.run, "eval");
  Checkpoint saved = *load_checkpoint(c.run);
  const auto best = saved.metadata;
  saved.metadata["evaluated"] = "0";
  saved.metadata.erase("best");
  save_checkpoint(c.run, saved);
  fs::remove(fs::path(c.run) / "summary.json");
  ASSERT_EQ(align(c = longer(c, 2)), RunEnd::kFinished);
  EXPECT_EQ(lines_of(c.run, "eval"), lines);
  EXPECT_EQ(load_checkpoint(c.run)->metadata, best);
}

TEST(Resume, NoticesAnotherBaseModelAndMissingLines) {
  AlignConfig c = quick("other_base");
  c.flow.model = (models() / "other_nano").string();
  fs::copy(models() / "nano", c.flow.model, fs::copy_options::recursive);
  c.updates = 2;
  ASSERT_EQ(align(c), RunEnd::kFinished);
  const fs::path weights = fs::path(c.flow.model) / "model.safetensors";
  flip_bit(weights, fs::file_size(weights) - 2);
  c = longer(c, 4);
  EXPECT_THAT(message_of([&] { align(c); }),
              HasSubstr("expected the base model that the run was started with, with the hash"));
  flip_bit(weights, fs::file_size(weights) - 2);
  const fs::path metrics = fs::path(c.run) / "metrics.jsonl";
  std::string kept;
  for (const Json& line : read_json_lines(metrics)) {
    if (line["kind"] != "update" || line["update"] != 2) kept += line.dump() + "\n";
  }
  write_text(metrics, kept);
  ASSERT_EQ(align(c), RunEnd::kFinished);
  EXPECT_THAT(read_text(fs::path(c.run) / "log.txt"),
              HasSubstr("metrics.jsonl holds 1 of the 2 updates that the checkpoint has"));
}

TEST(Resume, NoticesOtherPromptsInTheirFile) {
  AlignConfig c = quick("other_prompts");
  c.prompts.train = (models() / "train.txt").string();
  c.judge.clear();
  write_text(c.prompts.train, "red heart\ncat\nblue star\n");
  c.updates = 2;
  ASSERT_EQ(align(c), RunEnd::kFinished);
  write_text(c.prompts.train, "red heart\ncat\nblue moon\n");
  EXPECT_THAT(message_of([&] { align(c = longer(c, 4)); }),
              AllOf(HasSubstr("expected the prompts that the run was started with"),
                    HasSubstr("train.txt")));
  write_text(c.prompts.train, "red heart\ncat\nblue star\n");
  EXPECT_EQ(align(c), RunEnd::kFinished);
}

TEST(Resume, RefusesResultsWithoutTheirCheckpoints) {
  AlignConfig c = quick("no_checkpoints");
  c.updates = 2;
  ASSERT_EQ(align(c), RunEnd::kFinished);
  fs::remove_all(fs::path(c.run) / "checkpoints");
  const auto before = contents(c.run);
  EXPECT_THAT(message_of([&] { align(c = longer(c, 4)); }),
              HasSubstr("holds a run's results, but no checkpoint to go on from"));
  EXPECT_EQ(contents(c.run), before);
}

TEST(Resume, RefusesAllElseByName) {
  AlignConfig c = quick("else");
  c.updates = 2;
  ASSERT_EQ(align(c), RunEnd::kFinished);
  const auto before = contents(c.run);
  AlignConfig other = longer(c, 4);
  other.batch = 4;
  other.problem.guidance = 2;
  other.methods.set("vgg-flow", "beta=7");
  EXPECT_THAT(message_of([&] { align(other); }),
              HasSubstr("started with other settings: batch, guidance, vgg.beta differ"));
  AlignConfig fewer = longer(c, 1);
  EXPECT_THAT(message_of([&] { align(fewer); }),
              HasSubstr("expected updates=2 or more, as many as"));
  EXPECT_EQ(contents(c.run), before);
  AlignConfig nothing = longer(quick("nothing_there"), 4);
  EXPECT_THAT(
      message_of([&] { align(nothing); }),
      HasSubstr("nothing_there holds no run to go on with: expected its config.yaml there"));
  EXPECT_FALSE(fs::exists(nothing.run));
}

TEST(Start, ThatFailsLeavesNoFolderBehind) {
  const fs::path outer = models() / "outer";
  AlignConfig c = quick("outer/inner/run");
  c.updates = 1;
  const AlignConfig right = c;
  const std::vector<void (*)(AlignConfig&)> mistakes{
      [](AlignConfig& a) { a.judge = "/no/judge"; },
      [](AlignConfig& a) { a.reward = "torchscript:/no/file.pt"; },
      [](AlignConfig& a) { a.flow.model = "/no/model"; },
      [](AlignConfig& a) { a.eval.features = "nosuch"; },
      [](AlignConfig& a) { a.init_lora = "/no/lora.safetensors"; }};
  for (const auto& mistake : mistakes) {
    c = right;
    mistake(c);
    EXPECT_NE(message_of([&] { align(c); }), "no error");
    EXPECT_FALSE(fs::exists(outer)) << &mistake - mistakes.data();
  }
  c = right;
  EXPECT_EQ(align(c), RunEnd::kFinished);
  EXPECT_THAT(message_of([&] { align(c); }), HasSubstr("already holds a run"));
}

TEST(Start, TakesOverWhatADeadStartLeft) {
  AlignConfig c = quick("dead_start");
  c.updates = 1;
  make_writable_folder(c.run);
  const fs::path run = c.run;
  write_text(run / "config.yaml", "updates: 7\n");
  write_text(run / "metrics.jsonl", "{\"kind\":\"eval\",\"update\":0,\"metrics\":{}}\n");
  write_text(run / "notes.txt", "mine");
  ASSERT_EQ(align(c), RunEnd::kFinished);
  EXPECT_EQ(lines_of(c.run, "eval").size(), 2u);
  EXPECT_EQ(read_text(run / "notes.txt"), "mine");
}

// Adapters that were trained and exported start a run as they are, in any layout.
TEST(Start, TakesAnInitialLoraOfAnyLayout) {
  AlignConfig first = quick("init_first");
  first.lora_alpha = 6;  // a scale of 3
  ASSERT_EQ(align(first), RunEnd::kFinished);
  const LoraFile trained = read_lora(fs::path(first.run) / "lora.safetensors");
  for (const LoraLayout layout : {LoraLayout::kDiffusers, LoraLayout::kPeft, LoraLayout::kKohya}) {
    AlignConfig c = quick(fmt::format("init_{}", name_of(layout)));
    const fs::path file = models() / fmt::format("start_{}{}", name_of(layout),
                                                 layout == LoraLayout::kPeft ? "" : ".safetensors");
    write_lora(file, trained.layers, layout, at::kFloat);
    c.init_lora = file.string();
    c.lora_rank = 5;  // the file's is taken
    c.updates = 1;
    c.policy_optimizer.lr = 0;
    ASSERT_EQ(align(c), RunEnd::kFinished);
    const LoraFile now = read_lora(fs::path(c.run) / "lora.safetensors");
    ASSERT_EQ(now.layers.size(), trained.layers.size());
    for (size_t i = 0; i < now.layers.size(); ++i) {
      const LoraLayer &a = now.layers[i], &b = trained.layers[i];
      EXPECT_TRUE(
          at::allclose(at::matmul(a.b, a.a) * a.scale, at::matmul(b.b, b.a) * b.scale, 1e-5, 1e-7))
          << a.path;
    }
    const Json base = summary_of(c)["base"];
    EXPECT_EQ(base, summary_of(first)["base"]) << "the base is without the adapters";
    EXPECT_NE(summary_of(c)["final"]["reward"], base["reward"]);
    EXPECT_THAT(read_text(fs::path(c.run) / "log.txt"), HasSubstr("the adapters start from "));
  }
}

TEST(Start, LeavesOutAnInitialLorasTextEncodersWhereAskedTo) {
  AlignConfig first = quick("text_first");
  first.updates = 1;
  ASSERT_EQ(align(first), RunEnd::kFinished);
  const SafetensorsFile trained(fs::path(first.run) / "lora.safetensors");
  TensorList tensors{{"text_encoder.q_proj.lora_A.weight", at::ones({2, 4})},
                     {"text_encoder.q_proj.lora_B.weight", at::ones({4, 2})}};
  for (const auto& [name, tensor] : trained.views()) tensors.emplace_back(name, tensor);
  const fs::path both = models() / "start_text.safetensors";
  write_safetensors(both, tensors, trained.metadata());
  AlignConfig c = quick("text_second");
  c.updates = 1;
  c.init_lora = both.string();
  EXPECT_THAT(message_of([&] { align(c); }),
              HasSubstr("init_lora_text_encoders=skip (align): text_encoder.q_proj"));
  apply_override(fields_of(c), "init_lora_text_encoders=skip");
  ASSERT_EQ(align(c), RunEnd::kFinished);
  EXPECT_EQ(read_lora(fs::path(c.run) / "lora.safetensors").layers.size(),
            read_lora(fs::path(first.run) / "lora.safetensors").layers.size());
}

TEST(Resume, NeedsNoInitialLoraAnyMore) {
  AlignConfig first = quick("init_once");
  ASSERT_EQ(align(first), RunEnd::kFinished);
  AlignConfig c = quick("init_gone"), whole = quick("init_whole");
  const fs::path file = models() / "start_gone.safetensors";
  fs::copy(fs::path(first.run) / "lora.safetensors", file);
  c.init_lora = whole.init_lora = file.string();
  c.lora_rank = whole.lora_rank = 5;
  c.updates = 2;
  ASSERT_EQ(align(c), RunEnd::kFinished);
  ASSERT_EQ(align(whole), RunEnd::kFinished);
  fs::remove(file);
  c = quick("init_gone");
  c.init_lora = file.string();
  c.lora_rank = 5;
  ASSERT_EQ(align(c = longer(c, 4)), RunEnd::kFinished);
  expect_same_tensors(fs::path(c.run) / "lora.safetensors",
                      fs::path(whole.run) / "lora.safetensors");
}

TEST(Start, RefusesAFolderThatAnotherProcessWorksIn) {
  AlignConfig c = quick("busy");
  make_writable_folder(c.run);
  const FolderLock other(c.run);
  EXPECT_THAT(message_of([&] { align(c); }),
              HasSubstr(fmt::format("busy is in use by process {}", ::getpid())));
}

// Does something once the first update is made.
struct AfterTheFirstUpdate : RunControl {
  explicit AfterTheFirstUpdate(std::function<void()> f) : act(std::move(f)) {}
  RunWishes take() override { return {}; }
  void updated(const Json&, const Json&) override { act(); }
  void saved(int64_t) override {}
  void drawn(const SampleWish&, int64_t, const Image&, const Image&) override {}
  void failed(const SampleWish&, const std::string&) override {}
  std::function<void()> act;
};

// In a process of its own: an interrupt cannot be taken back.
TEST(Interrupts, StopAfterTheUpdateAndGoOnToTheSameNumbers) {
  at::set_num_threads(1);  // threads of a pool do not live on in a fork
  AlignConfig whole = quick("signal_whole"), broken = quick("signal_broken");
  ASSERT_EQ(align(whole), RunEnd::kFinished);
  EXPECT_EXIT(
      {
        catch_interrupts_saying("stopping after this update");
        AfterTheFirstUpdate presses([] { ::raise(SIGINT); });
        ::_exit(align(broken, {}, {}, &presses) == RunEnd::kInterrupted ? 42 : 1);
      },
      ::testing::ExitedWithCode(42),
      "stopping after this update\n(.|\n)*interrupted after update 1; the state is saved");
  ASSERT_EQ(last_checkpoint(broken.run), 1);
  ASSERT_EQ(align(broken = longer(broken, 4)), RunEnd::kFinished);
  expect_same_tensors(fs::path(whole.run) / "lora.safetensors",
                      fs::path(broken.run) / "lora.safetensors");
  EXPECT_EQ(lines_of(whole.run, "update"), lines_of(broken.run, "update"));
}

// A closed terminal, a full quota and a reader that left: saved as for SIGTERM, and once is enough
// however often they come.
TEST(Interrupts, ThatNobodySentSaveToo) {
  at::set_num_threads(1);
  for (const int signal : {SIGHUP, SIGXFSZ, SIGPIPE}) {
    AlignConfig c = quick(fmt::format("signal_{}", signal));
    const pid_t child = ::fork();
    if (child == 0) {
      catch_interrupts();
      AfterTheFirstUpdate comes([signal] {
        if (signal == SIGPIPE) {
          int ends[2];
          if (::pipe(ends) != 0) ::_exit(2);
          ::dup2(ends[1], STDERR_FILENO);
          ::close(ends[0]);
          log_info("a line that nobody reads");
        } else {
          ::raise(signal);
          ::raise(signal);
        }
      });
      ::_exit(align(c, {}, {}, &comes) == RunEnd::kInterrupted ? 42 : 1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 42) << signal << " " << status;
    EXPECT_EQ(last_checkpoint(c.run), 1) << signal;
  }
}

// A file that may not grow further: the signal asks for the end, and the write that met it fails.
TEST(Interrupts, OfAFileThatMayNotGrowSaveToo) {
  at::set_num_threads(1);
  AlignConfig c = quick("signal_full");
  c.updates = c.eval_every = c.checkpoint_every = 100000;
  const pid_t child = ::fork();
  if (child == 0) {
    catch_interrupts();
    const rlimit most{96 << 10, 96 << 10};
    ::setrlimit(RLIMIT_FSIZE, &most);
    ::_exit(align(c) == RunEnd::kInterrupted ? 42 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 42) << status;
  EXPECT_GT(last_checkpoint(c.run).value_or(0), 0);
}

// The base's evaluation may take minutes, and nothing of it is kept.
TEST(Interrupts, InTheBasesEvaluationEndTheRunAtOnce) {
  at::set_num_threads(1);
  AlignConfig c = quick("signal_base");
  EXPECT_EXIT(
      {
        catch_interrupts();
        ::raise(SIGINT);
        ::_exit(align(c) == RunEnd::kInterrupted ? 42 : 1);
      },
      ::testing::ExitedWithCode(42),
      "interrupted before the first update was done: there is nothing to go on from");
  EXPECT_FALSE(fs::exists(c.run));
}

// Two signals before the run: the first network call ends it, and there is nothing to keep.
TEST(Interrupts, ThatComeTwiceBeforeTheFirstUpdateLeaveNoFolder) {
  at::set_num_threads(1);
  AlignConfig c = quick("signal_twice");
  EXPECT_EXIT(
      {
        catch_interrupts();
        {
          const SecondInterruptThrows scope("stopping now");
          ::raise(SIGINT);
          ::raise(SIGINT);
        }
        ::_exit(align(c) == RunEnd::kInterrupted ? 42 : 1);
      },
      ::testing::ExitedWithCode(42), "stopping now\n(.|\n)*there is nothing to go on from");
  EXPECT_FALSE(fs::exists(c.run));
}

}  // namespace
}  // namespace vggflow
