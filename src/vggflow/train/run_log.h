#pragma once
// What a run tells while it trains: metrics.jsonl, TensorBoard's event files, and the lines for a
// person.

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "vggflow/algorithms/method.h"
#include "vggflow/data/prompt_sets.h"
#include "vggflow/eval/evaluate.h"
#include "vggflow/io/grid_file.h"
#include "vggflow/io/jsonl.h"
#include "vggflow/io/tensorboard.h"
#include "vggflow/nn/pass_counter.h"
#include "vggflow/train/align_config.h"

namespace vggflow {

/// What one update found, and what the optimizers did with it.
struct UpdateReport {
  MethodReport method;
  PassCounter policy, value;  ///< counted passes
  BatchAudit audit;
  double seconds = 0, policy_norm = 0, value_norm = 0, lr = 0, beta_scale = 1;
  bool stepped = true;
};

/// Passes as metrics.jsonl and summary.json hold them.
Json json_of(const PassCounter& policy, const PassCounter& value);

/// What the lines of metrics.jsonl come to, those of earlier processes of the run among them.
struct RunRecord {
  std::map<std::string, double> seconds;  ///< of updates, by phase
  double evaluation_seconds = 0;
  Json update = Json::object();      ///< the last update's line
  Json evaluation = Json::object();  ///< the last evaluation's line
  void add(const Json& line);
};

class RunLog {
 public:
  /// Goes on behind the lines of the first `updates_done` updates and of the evaluations up to that
  /// of update `evaluated`; what was logged after them is dropped. -1 drops every line. Says so
  /// where lines of the updates done are missing.
  RunLog(const AlignConfig& config, int64_t updates_done, int64_t evaluated);
  /// Returns once the lines of metrics.jsonl are on the disk: before a checkpoint speaks of them.
  void sync() { metrics_.sync(); }
  void update(int64_t done, const UpdateReport& report);
  /// `prompt_kind`: what the prompts are to training.
  void evaluation(int64_t done, const Evaluation& now, const Evaluation& base,
                  const std::string& prompt_kind, double seconds);
  void warning(int64_t done, const std::string& name, const std::string& text);
  /// Images of `prompts`, written to grids/ too.
  void grid(int64_t done, const ImageGrid& image, const std::vector<std::string>& prompts);
  const RunRecord& record() const { return record_; }

 private:
  void write(const Json& line);
  void show_evaluation(int64_t done, const Evaluation& now, double seconds);

  const AlignConfig& config_;
  std::filesystem::path run_;
  RunRecord record_;
  JsonLines metrics_;
  EventWriter events_;
};

}  // namespace vggflow
