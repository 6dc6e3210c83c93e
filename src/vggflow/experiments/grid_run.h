#pragma once
// The runs of a comparison as child processes: resumable, several at once, failures recorded,
// Ctrl-C passed on.

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "vggflow/experiments/comparison.h"

namespace vggflow {

/// The command that a run is: `vggflow compare` passes its own binary and what align's settings
/// say.
struct RunCommand {
  std::filesystem::path program;
  /// Settings that differ between a run and the config.yaml its folder was started with; throws
  /// where that is no config.yaml.
  std::function<std::vector<std::string>(const PlannedRun&)> changed_settings;
  std::vector<std::string> trust = {};  ///< words that every run is given (core/trust.h)
};

enum class RunState { kAbsent, kHalfDone, kFinished, kRefused };
struct RunStatus {
  RunState state = RunState::kAbsent;
  std::string note;  ///< how far it is, or why it is refused
};
/// What a run's folder holds: nothing to go on from, some updates, summary.json, or a run of other
/// settings.
RunStatus status_of(const PlannedRun& run, const RunCommand& command);

struct RunFailure {
  std::string label, error;
};

/// What is there of a comparison.
struct ComparisonData {
  ComparisonConfig config;
  std::vector<RunResult> results;        ///< the finished runs, tuning runs among them
  std::vector<ArmSelection> selections;  ///< one an arm
  std::vector<RunFailure> failures;      ///< failed, refused or unreadable
  std::vector<std::string> open;         ///< labels of runs that are not done yet
  Json records = Json::array();          ///< lines of OUT/grid.jsonl: one per process that ended
};
ComparisonData collect(const ComparisonConfig& config, const RunCommand& command);

/// How far a comparison is, for its log lines.
struct GridProgress {
  size_t total = 0, done = 0;  ///< runs of the whole comparison
  double seconds = 0;          ///< spent on `timed` runs of this call
  size_t timed = 0;
  size_t records = 0;  ///< lines of OUT/grid.jsonl at the beginning of this call
};

/// Runs what is not finished of `runs`, `config.parallel` at once. Several processes may do so on
/// one folder: a run is taken by one of them, which holds RUN/.claim (io/folder_lock.h) until the
/// run has ended; what another one has tried in vain since this call began is not tried again.
/// `waits`: returns once the runs that others have taken have ended too. Returns false when it was
/// interrupted: the children were told with SIGINT and have saved. A failed run is written to
/// OUT/grid.jsonl and the others go on.
bool run_grid(const ComparisonConfig& config, const RunCommand& command,
              const std::vector<PlannedRun>& runs, GridProgress& progress, bool waits);

/// One of the processes that a launcher started for a comparison: the first one has the terminal
/// and log.txt, and stays until all runs have ended; the others write log.rankN.txt.
struct Worker {
  int rank = 0, size = 1;
};

/// All of a comparison: the tuning runs, the choice, the runs of the tables. Returns false when it
/// was interrupted.
bool run_comparison(const ComparisonConfig& config, const RunCommand& command,
                    const Worker& worker = {});

/// The list that --dry-run prints: each run with its state and its command line.
std::string describe_plan(const ComparisonConfig& config, const RunCommand& command);

}  // namespace vggflow
