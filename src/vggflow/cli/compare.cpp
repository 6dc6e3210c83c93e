#include <cstdio>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "vggflow/cli/commands.h"
#include "vggflow/cli/run_folder.h"
#include "vggflow/core/interrupt.h"
#include "vggflow/core/log.h"
#include "vggflow/core/shell_word.h"
#include "vggflow/experiments/comparison_report.h"
#include "vggflow/train/checks.h"

namespace vggflow::cli {
namespace {

AlignConfig settings_of(const PlannedRun& run, const ComparisonConfig& comparison) {
  AlignConfig config;
  read_config(config, {comparison.base.string(), run.overrides});
  config.run = run.folder.string();
  config.seed = run.seed;
  return config;
}

// Every setting of every arm is read and checked once before anything is started: a wrong one is an
// error at once, not after hours.
void check_settings(const ComparisonConfig& comparison) {
  for (size_t arm = 0; arm < comparison.arms.size(); ++arm) {
    for (size_t setting = 0; setting < comparison.arms[arm].settings.size(); ++setting) {
      const PlannedRun run = planned_run(comparison, arm, setting, 0);
      try {
        check_run(settings_of(run, comparison));
      } catch (const Error& e) {
        fail("[compare] arm '{}', setting '{}': {}", comparison.arms[arm].name,
             comparison.arms[arm].settings[setting].name, e.what());
      }
    }
  }
}

// Every setting that results depend on: also of evaluations, which align itself may change when it
// goes on, but which could then not be averaged over seeds.
std::vector<std::string> changed_settings(const PlannedRun& run,
                                          const ComparisonConfig& comparison) {
  AlignConfig wanted = settings_of(run, comparison), before;
  load_yaml(fields_of(before), run.folder / "config.yaml");
  static const std::set<std::string> kFree{"run",    "resume", "threads", "checkpoint_every",
                                           "device", "tf32",   "kernels", "deterministic"};
  std::vector<std::string> changed;
  for (const std::string& key : differences(fields_of(wanted), fields_of(before))) {
    if (!kFree.contains(key)) changed.push_back(key);
  }
  return changed;
}

void say_how_to_go_on(const CompareArguments& arguments) {
  std::string line = "interrupted; what is done is kept. Go on with: vggflow compare " +
                     shell_word(arguments.file);
  for (const std::string& s : arguments.settings) line += " " + shell_word(s);
  log_line(line);
}

}  // namespace

bool compare(const CompareArguments& arguments) {
  const ComparisonConfig comparison = load_comparison(arguments.file, arguments.settings);
  check_settings(comparison);
  const RunCommand command{
      std::filesystem::read_symlink("/proc/self/exe"),
      [&](const PlannedRun& run) { return changed_settings(run, comparison); }};
  if (arguments.dry_run) {
    std::fputs(describe_plan(comparison, command).c_str(), stdout);
    return true;
  }
  bool whole = true;
  if (!arguments.report_only) {
    catch_interrupts();
    whole = run_comparison(comparison, command);
    if (!whole) say_how_to_go_on(arguments);
  }
  const ComparisonData data = collect(comparison, command);
  write_comparison_report(data);
  for (const RunFailure& f : data.failures) log_info("failed: {}: {}", f.label, f.error);
  log_info("report: {}", (comparison.out / "report.html").string());
  if (!whole) throw Interrupted();
  return data.failures.empty();
}

}  // namespace vggflow::cli
