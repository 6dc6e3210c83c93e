#pragma once
// The trainer: everything that one run needs, opened once, and the loop over its updates.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "vggflow/core/log.h"
#include "vggflow/core/progress.h"
#include "vggflow/data/prompt_source.h"
#include "vggflow/dist/group.h"
#include "vggflow/eval/evaluate.h"
#include "vggflow/families/open_model.h"
#include "vggflow/flow/adapted_flow.h"
#include "vggflow/nn/lora.h"
#include "vggflow/train/align.h"
#include "vggflow/train/base_cache.h"
#include "vggflow/train/beta_steering.h"
#include "vggflow/train/checkpoint.h"
#include "vggflow/train/checks.h"
#include "vggflow/train/image_problem.h"
#include "vggflow/train/monitor.h"
#include "vggflow/train/pace.h"
#include "vggflow/train/run_control.h"
#include "vggflow/train/run_log.h"
#include "vggflow/train/shares.h"
#include "vggflow/train/train_state.h"

namespace vggflow {

class Trainer {
 public:
  /// Opens model, rewards, judge and prompts; touches no folder. `files`: the model's, which are
  /// let go once it is loaded. `start`: adapters that a new run
  /// starts from; none: fresh ones that change nothing yet. `new_evaluations`: a resumed run
  /// evaluates otherwise than before, so that earlier figures are not compared with. `group`: the
  /// processes of the run, each with a trainer of the same settings. `control`: rank 0's, or null.
  Trainer(const AlignConfig& config, std::shared_ptr<const FamilyModel> files,
          const std::vector<LoraLayer>& start, bool new_evaluations, const Group& group,
          RunControl* control = nullptr);
  /// From the last checkpoint, or the start, to the last update.
  RunEnd run();

 private:
  std::optional<Checkpoint> load_last() const;
  void begin();
  std::vector<std::string> shown_prompts() const;
  void resume_from(const Checkpoint& checkpoint);
  void hear_rounding(const Checkpoint& saved, const std::string& key, const std::string& now) const;
  bool advance();
  void keep();
  RunWishes grant_wishes();
  void draw(const SampleWish& wish);
  RunEnd interrupted_end();
  void finish();

  // One update.
  UpdateReport step(int64_t index);
  std::vector<std::string> draw_prompts(uint64_t update) const;
  UpdateInput draw_noise(int64_t index) const;
  void merge_for_rollouts();
  void find_gradients(const std::vector<std::string>& prompts, const UpdateInput& input,
                      UpdateReport& report);
  MethodReport whole_report(std::vector<MethodReport> reports) const;
  void count_passes(UpdateReport& report) const;
  void clip_and_step(int64_t index, UpdateReport& report);
  double step_value(int64_t index);
  ImageProblem pose(const std::vector<std::string>& prompts) const;

  // Evaluations.
  bool evaluation_due() const;
  ImageGenerator generator(bool base) const;
  Progress evaluation_bar(int64_t sets) const;
  BaseCache base_cache() const;
  Evaluation evaluated_base(const ImageGenerator& draw, const Stopwatch& watch, Progress& bar);
  void measure_base();
  void evaluate();
  void log_evaluation(const Evaluation& now, const ImageGenerator& draw, const Stopwatch& watch,
                      Progress& bar);
  void weigh(const Evaluation& now);
  void answer_warning();

  // What stays.
  Checkpoint checkpoint() const;
  Metadata lora_metadata() const;
  Json summary() const;

  const AlignConfig& config_;
  Group group_;
  RunControl* control_;
  Shares shares_;
  std::filesystem::path run_;
  uint64_t seed_;
  bool new_evaluations_;
  ResolvedMethod resolved_;
  std::unique_ptr<PromptSource> prompts_;
  std::unique_ptr<FlowModel> model_;
  std::string base_hash_;     ///< of the content of the model's network
  std::string prompts_hash_;  ///< of the prompts of files; empty: those that come with the program
  std::unique_ptr<Reward> reward_;
  std::unique_ptr<ImageJudge> judge_;
  LoraOptions lora_options_;
  std::unique_ptr<AdaptedFlow> lora_;
  std::unique_ptr<ValueNetwork> value_;
  std::shared_ptr<PassCounter> policy_passes_, value_passes_;
  TrainState state_;
  std::vector<double> times_, eval_times_;
  std::unique_ptr<Evaluator> evaluator_;
  Monitor monitor_;
  BetaSteering steering_;
  Pace pace_;
  std::optional<RunLog> log_;  ///< rank 0's
  bool losses_of_g_ = false;   ///< the run was begun with nu's losses in units of g
  double reward_spread_ = 1;   ///< UpdateInput's, as the run's start measured it; 1 in older runs
  int64_t done_ = 0;           ///< updates
  bool stops_ = false;         ///< a process was asked to end
  bool warned_off_ = false;    ///< the monitor ended the run
  double mean_reward_ = 0;     ///< mean of the last update's
  int64_t evaluated_ = 0;      ///< updates that the last evaluation came after
  Evaluation base_;            ///< as this process measured it
  Json base_json_;             ///< as the run's start did
};

}  // namespace vggflow
