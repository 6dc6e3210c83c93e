#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "vggflow/cli/command.h"
#include "vggflow/cli/commands.h"
#include "vggflow/cli/ranks.h"
#include "vggflow/core/log.h"
#include "vggflow/core/result.h"
#include "vggflow/core/shell_word.h"
#include "vggflow/core/usage_error.h"
#include "vggflow/core/visible.h"
#include "vggflow/device/installation.h"
#include "vggflow/dist/place.h"
#include "vggflow/experiments/comparison_report.h"
#include "vggflow/flow/precision.h"
#include "vggflow/io/folder_lock.h"
#include "vggflow/plan/plan.h"
#include "vggflow/train/checks.h"

namespace vggflow::cli {
namespace {

struct CompareConfig {
  bool dry_run = false, plan = false, report_only = false;
  template <class V>
  void fields(V& v) {
    v("dry_run", dry_run, "list the runs, their state and their commands");
    v("plan", plan, "count what the arms will take, as `vggflow plan` does; nothing is started");
    v("report_only", report_only, "write the report from what is there");
  }
};

Syntax syntax() {
  return {.flags = {{"--dry-run", "dry_run"}, {"--plan", "plan"}, {"--report-only", "report_only"}},
          .file_keys = comparison_keys(),
          .notes =
              "Other keys: those of the file (out=..., seeds=[0], select.by=...) take the place of "
              "what it says; all others are settings of every run, after those of the arms "
              "(updates=10). run, seed, resume, threads and base_cache of a run are compare's own. "
              "docs/compare.md tells more.",
          .reads_file = true};
}

AlignConfig settings_of(const PlannedRun& run, const ComparisonConfig& comparison) {
  AlignConfig config;
  const Fields fields = fields_of(config);
  load_yaml(fields, comparison.base);
  for (const std::string& setting : run.overrides) apply_override(fields, setting);
  config.run = run.folder.string();
  config.seed = run.seed;
  return config;
}

// Every setting of every arm is read and checked once before anything is started: a wrong one is an
// error at once, not after hours. So is a reward that the files name and the line does not trust:
// the runs get the arms' settings on command lines of their own.
void check_settings(const ComparisonConfig& comparison, const CommandLine& line) {
  for (size_t arm = 0; arm < comparison.arms.size(); ++arm) {
    for (size_t setting = 0; setting < comparison.arms[arm].settings.size(); ++setting) {
      const PlannedRun run = planned_run(comparison, arm, setting, 0);
      AlignConfig config;
      try {
        config = settings_of(run, comparison);
        check_run(config);
      } catch (const Error& e) {
        fail("[compare] arm '{}', setting '{}': {}", comparison.arms[arm].name,
             comparison.arms[arm].settings[setting].name, e.what());
      }
      check_trust(line, "compare", fields_of(config), line.others);
    }
  }
}

// Else all runs would fail with it, one after the other.
void check_devices(const ComparisonConfig& comparison) {
  for (size_t arm = 0; arm < comparison.arms.size(); ++arm)
    device::require_installed(
        settings_of(planned_run(comparison, arm, 0, comparison.seeds.front()), comparison)
            .device.device);
}

// Every setting that results depend on: also of evaluations, which align itself may change when it
// goes on, but which could then not be averaged over seeds.
std::vector<std::string> changed_settings(const PlannedRun& run,
                                          const ComparisonConfig& comparison) {
  AlignConfig wanted = settings_of(run, comparison), before;
  load_yaml(fields_of(before), run.folder / "config.yaml");
  static const std::set<std::string> kFree{
      "run",  "resume",  "threads",       "grid_images",      "device",
      "tf32", "kernels", "deterministic", "checkpoint_every", "base_cache"};
  std::vector<std::string> changed;
  for (const std::string& key : differences(fields_of(wanted), fields_of(before))) {
    if (!kFree.contains(key)) changed.push_back(key);
  }
  return changed;
}

// The settings of an arm differ in what is tuned, which takes neither memory nor time: the first
// one stands for all.
std::string plan_of(const ComparisonConfig& comparison) {
  std::vector<ArmPlan> arms;
  std::vector<Device> devices = known_devices(device::missing_for_cuda());
  for (size_t arm = 0; arm < comparison.arms.size(); ++arm) {
    const AlignConfig config =
        settings_of(planned_run(comparison, arm, 0, comparison.seeds.front()), comparison);
    if (arm == 0) devices.push_back(this_machine(precision_dtype(config.flow.precision), 0));
    arms.push_back({comparison.arms[arm].name, run_count(comparison, arm),
                    static_cast<double>(config.updates), evaluated_images(config),
                    vggflow::plan(config, read_model_shape(config.flow))});
  }
  return arms_text(arms, devices);
}

// One process at a time, so that the last one to write has seen what all others did.
ComparisonData report_on(const ComparisonConfig& comparison, const RunCommand& command) {
  std::unique_ptr<FolderLock> turn;
  while (!(turn = FolderLock::unless_taken(comparison.out, ".report")))
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  ComparisonData data = collect(comparison, command);
  write_comparison_report(data);
  return data;
}

// What is wrong in the file or a setting is a usage error, as align's are.
ComparisonConfig read_comparison(const CommandLine& line) {
  try {
    ComparisonConfig comparison = load_comparison(line.file, line.others);
    check_settings(comparison, line);
    return comparison;
  } catch (const Error& e) {
    throw UsageError(e.what());
  }
}

void say_how_to_go_on(const Call& call) {
  log_info("interrupted; what is done is kept. Go on with: vggflow compare {}",
           shell_words(call.words));
}

}  // namespace

int compare(const Call& call) {
  CompareConfig config;
  const auto line = read_settings(call, syntax(), config);
  if (!line) return kDone;
  // Its runs are processes of their own, which are no ranks.
  const Place place = leave_place();
  see_own_gpu(place);
  if (place.rank > 0) keep_off_terminal();
  if (line->file.empty())
    throw UsageError("[compare] expected --config FILE, the comparison's file (docs/compare.md)");
  const ComparisonConfig comparison = read_comparison(*line);
  const RunCommand command{std::filesystem::read_symlink("/proc/self/exe"),
                           [&](const PlannedRun& run) { return changed_settings(run, comparison); },
                           line->trust};
  if (place.rank > 0 && (config.dry_run || config.plan || config.report_only)) return kDone;
  if (config.plan) {
    std::fputs(visible(plan_of(comparison)).c_str(), stdout);
    return kDone;
  }
  if (config.dry_run) {
    std::fputs(visible(describe_plan(comparison, command)).c_str(), stdout);
    return kDone;
  }
  bool whole = true;
  if (!config.report_only) {
    check_devices(comparison);
    catch_interrupts();
    whole = run_comparison(comparison, command, {place.rank, place.size});
    if (!whole) say_how_to_go_on(call);
  }
  if (place.rank > 0) return whole ? kDone : kInterrupted;
  const ComparisonData data = report_on(comparison, command);
  for (const RunFailure& f : data.failures) log_info("failed: {}: {}", f.label, f.error);
  print_result("report: " + (comparison.out / "report.html").string());
  if (!whole) return kInterrupted;
  return data.failures.empty() ? kDone : kFailed;
}

}  // namespace vggflow::cli
