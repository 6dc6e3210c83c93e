// The grid with a shell script in align's place: it logs how it was called, and an override
// "behave=..." says what becomes of it.
#include "vggflow/experiments/grid_run.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <sstream>

#include "vggflow/core/log.h"
#include "vggflow/io/files.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;
using ::testing::SizeIs;

const char* const kFakeAlign = R"sh(#!/bin/bash
for word in "$@"; do case "$word" in run=*) run=${word#run=};; behave=*) behave=${word#behave=};; reward=*) reward=${word#reward=};; esac; done
echo "$@" >>"$run/calls.txt"
evaluation() { echo '{"kind":"eval","update":'$1',"metrics":{"reward":{"mean":'$2',"se":0},"diversity":{"mean":0.4,"se":0}}}' >>"$run/metrics.jsonl"; }
case " $* " in *" resume=true "*) echo resumed >>"$run/calls.txt";; *) evaluation 0 1;; esac
echo "$behave" >"$run/config.yaml"
echo '{"kind":"update","update":1,"seconds":{"policy":0.5}}' >>"$run/metrics.jsonl"
case "$behave" in
  fail) echo "some progress"; echo "vggflow: [align] update 1: no sample has a finite reward" >&2; exit 1;;
  die) kill -KILL $$;;
  stop) exit 0;;
  mute) exit 5;;
  interrupt)
    trap 'echo saved >>"$run/calls.txt"; heard=1' INT
    kill -INT -- -$PPID  # to the whole group, as a terminal does
    until [ -n "$heard" ]; do sleep 0.02; done
    sleep 0.3; exit 0;;
  slow) sleep 1;;
  meet)  # ends only while the other run of the pair is there too
    for _ in $(seq 500); do [ "$(ls "$run"/../../../*/default/seed0/metrics.jsonl | wc -l)" -eq 2 ] && break; sleep 0.02; done
    [ "$(ls "$run"/../../../*/default/seed0/metrics.jsonl | wc -l)" -eq 2 ] || exit 3;;
esac
evaluation 1 ${reward:-2}
echo '{"reward":"fake","peak_gib":1}' >"$run/summary.json"
)sh";

class GridRun : public ::testing::Test {
 protected:
  void SetUp() override {
    make_writable_folder(out_);
    write_text(out_ / "align.sh", kFakeAlign);
    fs::permissions(out_ / "align.sh", fs::perms::owner_all);
  }

  // `rest` are further keys: arms and what else a test needs.
  ComparisonConfig config(const std::string& rest) const {
    return parse_comparison(
        fmt::format("{{out: {}, base: base.yaml, {}}}", (out_ / "c").string(), rest), "test");
  }
  // The script's config.yaml holds its behaviour: another one is a changed setting.
  RunCommand command() const {
    return {out_ / "align.sh", [](const PlannedRun& run) {
              std::string behave;
              for (const std::string& o : run.overrides)
                behave = o.starts_with("behave=") ? o.substr(7) : behave;
              return read_text(run.folder / "config.yaml") == behave + "\n"
                         ? std::vector<std::string>{}
                         : std::vector<std::string>{"behave", "vgg.beta"};
            }};
  }
  static std::vector<std::string> lines(const fs::path& file) {
    std::vector<std::string> out;
    std::stringstream in(fs::exists(file) ? read_text(file) : "");
    for (std::string line; std::getline(in, line);) out.push_back(line);
    return out;
  }
  std::vector<std::string> calls(const std::string& run) const {
    return lines(out_ / "c/runs" / run / "calls.txt");
  }
  std::vector<std::string> record_statuses() const {
    std::vector<std::string> out;
    for (const Json& line : read_json_lines(out_ / "c/grid.jsonl"))
      out.push_back(line["label"].get<std::string>() + ": " + line["status"].get<std::string>());
    return out;
  }
  const testing::TemporaryFolder scratch_;
  const fs::path out_ = scratch_.path();
};

TEST_F(GridRun, RunsEverySeedOfEveryArmAndRecordsTimeAndMemory) {
  const ComparisonConfig c =
      config("seeds: [0, 1], common: [updates=1], arms: [{a: [behave=ok]}, {b: [behave=ok]}]");
  EXPECT_TRUE(run_comparison(c, command()));
  EXPECT_THAT(record_statuses(), ElementsAre("a seed 0: finished", "b seed 0: finished",
                                             "a seed 1: finished", "b seed 1: finished"));
  const Json record = read_json_lines(out_ / "c/grid.jsonl").front();
  EXPECT_GT(record["seconds"].get<double>(), 0);
  EXPECT_GT(record["peak_gib"].get<double>(), 0);
  EXPECT_THAT(calls("b/default/seed1"),
              ElementsAre(fmt::format("align --config base.yaml run={} seed=1 updates=1 behave=ok "
                                      "base_cache={}",
                                      (out_ / "c/runs/b/default/seed1").string(),
                                      (out_ / "c/base").string())));
  const std::string log = read_text(out_ / "c/log.txt");
  EXPECT_THAT(log, HasSubstr("start a seed 0\n"));
  EXPECT_THAT(lines(out_ / "c/log.txt").back(),
              MatchesRegex("\\[4/4\\] finished b seed 1 in .* m?s \\| peak .* GiB \\| ETA 0 s"));
}

TEST_F(GridRun, SkipsWhatIsFinished) {
  const ComparisonConfig c = config("arms: [{a: [behave=ok]}, {b: [behave=ok]}]");
  run_comparison(c, command());
  fs::remove(out_ / "c/runs/b/default/seed0/summary.json");
  EXPECT_TRUE(run_comparison(c, command()));
  EXPECT_THAT(calls("a/default/seed0"), SizeIs(1));
  EXPECT_THAT(calls("b/default/seed0"), SizeIs(3)) << "called twice, the second time it resumed";
}

TEST_F(GridRun, ResumesHalfDoneRunsAndBeginsThoseAnewThatCameToNothing) {
  const ComparisonConfig c = config("arms: [{half: [behave=ok]}, {nothing: [behave=ok]}]");
  for (const char* run : {"half", "nothing"}) {
    make_writable_folder(out_ / "c/runs" / run / "default/seed0");
    write_text(out_ / "c/runs" / run / "default/seed0/config.yaml",
               run == std::string("half") ? "ok\n" : "other settings\n");
  }
  write_text(out_ / "c/runs/half/default/seed0/metrics.jsonl",
             R"({"kind":"eval","update":0,"metrics":{"reward":{"mean":1}}})"
             "\n"
             R"({"kind":"update","update":1})"
             "\n");
  EXPECT_EQ(status_of(planned_run(c, 0, 0, 0), command()).note, "1 updates");
  EXPECT_TRUE(run_comparison(c, command()));
  EXPECT_THAT(calls("half/default/seed0").back(), "resumed");
  EXPECT_THAT(calls("nothing/default/seed0"), SizeIs(1)) << "without resume=true";
}

TEST_F(GridRun, RecordsFailuresWithTheirLastLineAndGoesOn) {
  const ComparisonConfig c = config(
      "arms: [{bad: [behave=fail]}, {dead: [behave=die]}, {quit: [behave=stop]}, {good: "
      "[behave=ok]}]");
  EXPECT_TRUE(run_comparison(c, command())) << "not interrupted";
  EXPECT_THAT(record_statuses(), ElementsAre("bad seed 0: failed", "dead seed 0: failed",
                                             "quit seed 0: failed", "good seed 0: finished"));
  const ComparisonData data = collect(c, command());
  ASSERT_THAT(data.failures, SizeIs(3));
  EXPECT_EQ(data.failures[0].label, "bad seed 0");
  EXPECT_EQ(data.failures[0].error, "[align] update 1: no sample has a finite reward");
  EXPECT_THAT(data.failures[1].error, HasSubstr("killed by signal 9"));
  EXPECT_THAT(data.failures[2].error, HasSubstr("it ended before its last update"));
  EXPECT_THAT(data.results, SizeIs(1));
  EXPECT_THAT(read_text(out_ / "c/log.txt"), HasSubstr("FAILED bad seed 0 after "));
  EXPECT_THAT(read_text(out_ / "c/runs/bad/default/seed0/console.txt"), HasSubstr("some progress"));
}

TEST_F(GridRun, AFailureWithoutAWordIsToldByItsExitStatus) {
  const ComparisonConfig c = config("arms: [{mute: [behave=mute]}]");
  run_comparison(c, command());
  ASSERT_THAT(collect(c, command()).failures, SizeIs(1));
  EXPECT_EQ(collect(c, command()).failures[0].error,
            "it ended with exit status 5 and said nothing");
}

TEST_F(GridRun, AProgramThatCannotBeStartedIsAFailure) {
  const ComparisonConfig c = config("arms: [{a: [behave=ok]}]");
  RunCommand absent = command();
  absent.program = out_ / "absent";
  run_comparison(c, absent);
  ASSERT_THAT(collect(c, absent).failures, SizeIs(1));
  EXPECT_EQ(collect(c, absent).failures[0].error, "the program could not be started");
}

TEST_F(GridRun, RefusesRunsOfOtherSettingsByNameAndLeavesThemAlone) {
  run_comparison(config("arms: [{a: [behave=ok]}, {b: [behave=ok]}]"), command());
  const ComparisonConfig changed = config("arms: [{a: [behave=meet]}, {b: [behave=ok]}]");
  EXPECT_TRUE(run_comparison(changed, command()));
  EXPECT_THAT(calls("a/default/seed0"), SizeIs(1));
  const ComparisonData data = collect(changed, command());
  ASSERT_THAT(data.failures, SizeIs(1));
  EXPECT_THAT(
      data.failures[0].error,
      HasSubstr("was started with other settings: behave, vgg.beta differ. Take another out="));
  EXPECT_THAT(data.results, SizeIs(1)) << "its numbers are not shown";
}

TEST_F(GridRun, StartsSeveralAtOnceWithTheirShareOfTheThreads) {
  const ComparisonConfig c = config("parallel: 2, arms: [{a: [behave=meet]}, {b: [behave=meet]}]");
  EXPECT_TRUE(run_comparison(c, command()));
  EXPECT_THAT(collect(c, command()).failures, IsEmpty()) << "each waited for the other";
  EXPECT_THAT(calls("a/default/seed0").front(), HasSubstr(" threads="));
}

TEST_F(GridRun, TunesFirstAndThenRunsTheChosenSettingOnTheOtherSeeds) {
  const ComparisonConfig c = config(
      "seeds: [1, 2], common: [behave=ok], arms: [{a: []}, {b: {grid: {}}}], grid: {reward: [5, 9, "
      "7]}, select: {seeds: [0]}");
  EXPECT_THAT(describe_plan(c, command()),
              HasSubstr("later     a on seeds 1, 2: its setting is chosen after its tuning runs"));
  EXPECT_TRUE(run_comparison(c, command()));
  EXPECT_THAT(
      record_statuses(),
      ElementsAre("a reward=5 seed 0: finished", "a reward=9 seed 0: finished",
                  "a reward=7 seed 0: finished", "a reward=9 seed 1: finished",
                  "b seed 1: finished", "a reward=9 seed 2: finished", "b seed 2: finished"));
  EXPECT_THAT(read_text(out_ / "c/log.txt"), HasSubstr("a: chose reward=9 by reward"));
  EXPECT_THAT(lines(out_ / "c/log.txt").back(), HasSubstr("[7/7] finished b seed 2"));
}

TEST_F(GridRun, ListsItsRunsWithTheirStateAndCommand) {
  const ComparisonConfig c =
      config("arms: [{a: [behave=ok]}, {b: [behave=fail]}, {c: [behave=ok]}]");
  run_comparison(config("arms: [{a: [behave=ok]}, {b: [behave=fail]}]"), command());
  const std::string plan = describe_plan(c, command());
  EXPECT_THAT(plan, HasSubstr("finished  a seed 0\n"));
  EXPECT_THAT(plan, HasSubstr("half done b seed 0 (1 updates)\n"));
  EXPECT_THAT(plan,
              HasSubstr("to do     c seed 0\n          vggflow align --config base.yaml run="));
  EXPECT_FALSE(fs::exists(out_ / "c/runs/c")) << "listing makes nothing";
}

// Another process that does the same comparison, as a rank or a task of a job array.
class Other {
 public:
  explicit Other(const std::function<void()>& work) : process_(::fork()) {
    if (process_ > 0) return;
    work();
    ::_exit(0);
  }
  ~Other() {
    int status = 0;
    ::waitpid(process_, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  Other(const Other&) = delete;
  Other& operator=(const Other&) = delete;

 private:
  pid_t process_;
};

TEST_F(GridRun, SeveralProcessesTakeARunEach) {
  const ComparisonConfig c = config("arms: [{a: [behave=meet]}, {b: [behave=meet]}]");
  {
    const Other second([&] { run_comparison(c, command(), {1, 2}); });
    EXPECT_TRUE(run_comparison(c, command(), {0, 2}));
  }
  EXPECT_THAT(collect(c, command()).results, SizeIs(2)) << "each waits for the other";
  EXPECT_THAT(calls("a/default/seed0"), SizeIs(1));
  EXPECT_TRUE(fs::exists(out_ / "c/log.rank1.txt"));
}

TEST_F(GridRun, SeveralProcessesTryNoRunTwice) {
  const ComparisonConfig c =
      config("seeds: [0, 1, 2], arms: [{good: [behave=ok]}, {bad: [behave=fail]}]");
  {
    const Other second([&] { run_comparison(c, command(), {1, 2}); });
    EXPECT_TRUE(run_comparison(c, command(), {0, 2}));
  }
  std::vector<std::string> all = record_statuses();
  std::sort(all.begin(), all.end());
  EXPECT_THAT(
      all, ElementsAre("bad seed 0: failed", "bad seed 1: failed", "bad seed 2: failed",
                       "good seed 0: finished", "good seed 1: finished", "good seed 2: finished"));
  EXPECT_THAT(calls("good/default/seed1"), SizeIs(1));
}

TEST_F(GridRun, TheFirstRankStaysUntilTheOthersRunsHaveEnded) {
  const ComparisonConfig c = config("arms: [{a: [behave=slow]}]");
  const Other second([&] { run_comparison(c, command(), {1, 2}); });
  while (!fs::exists(out_ / "c/runs/a/default/seed0/calls.txt")) ::usleep(1000);
  EXPECT_TRUE(run_comparison(c, command(), {0, 2}));
  EXPECT_THAT(collect(c, command()).results, SizeIs(1));
  EXPECT_THAT(read_text(out_ / "c/log.txt"), HasSubstr("waiting for 1 runs of other processes"));
}

TEST_F(GridRun, AProcessOfItsOwnLeavesTheRunsOfOthersToThem) {
  const ComparisonConfig c = config("arms: [{a: [behave=slow]}]");
  const Other second([&] { run_comparison(c, command()); });
  while (!fs::exists(out_ / "c/runs/a/default/seed0/calls.txt")) ::usleep(1000);
  EXPECT_TRUE(run_comparison(c, command()));
  EXPECT_THAT(read_text(out_ / "c/log.txt"), HasSubstr("1 runs are left to other processes"));
  EXPECT_THAT(collect(c, command()).results, IsEmpty());
}

// In a process group of its own: an interrupt cannot be taken back. The script sends it to that
// whole group, as a terminal does, and must hear of it once, from the runner: align takes a second
// one as the order to end without saving.
TEST_F(GridRun, PassesAnInterruptOnWaitsAndStartsNothingMore) {
  const ComparisonConfig c = config("arms: [{a: [behave=interrupt]}, {b: [behave=ok]}]");
  EXPECT_EXIT(
      {
        ::setpgid(0, 0);
        catch_interrupts();
        ::_exit(run_comparison(c, command()) ? 0 : 42);
      },
      ::testing::ExitedWithCode(42), "waiting until 1 running alignment has saved");
  EXPECT_THAT(calls("a/default/seed0"), ElementsAre(HasSubstr("align --config"), "saved"));
  EXPECT_FALSE(fs::exists(out_ / "c/runs/b"));
  EXPECT_THAT(record_statuses(), ElementsAre("a seed 0: interrupted"));
  const ComparisonData data = collect(c, command());
  EXPECT_THAT(data.failures, IsEmpty());
  EXPECT_THAT(data.open, ElementsAre("a seed 0 (1 updates)", "b seed 0"));
}

}  // namespace
}  // namespace vggflow
