#include "vggflow/train/align.h"

#include <filesystem>
#include <optional>
#include <string>

#include "vggflow/algorithms/registry.h"
#include "vggflow/cli/command.h"
#include "vggflow/cli/commands.h"
#include "vggflow/cli/ranks.h"
#include "vggflow/cli/run_folder.h"
#include "vggflow/core/interrupt.h"
#include "vggflow/core/log.h"
#include "vggflow/core/result.h"
#include "vggflow/device/device.h"
#include "vggflow/dist/group.h"
#include "vggflow/dist/place.h"
#include "vggflow/eval/run.h"
#include "vggflow/page/run_page.h"
#include "vggflow/plan/plan.h"
#include "vggflow/report/report.h"

namespace vggflow::cli {
namespace {

Syntax syntax() {
  return {.common = {"run",
                     "method",
                     "resume",
                     "seed",
                     "threads",
                     "device",
                     "model",
                     "reward",
                     "reward_weights",
                     "prompts.train",
                     "prompts.eval",
                     "updates",
                     "batch",
                     "guidance",
                     "checkpointing",
                     "eval_every",
                     "lora_rank",
                     "time_grid.steps",
                     "value.kind",
                     "eval.prompts",
                     "policy_optimizer.lr",
                     "eval.images",
                     method_section(default_method()) + ".beta"},
          .notes =
              "Files of settings to begin with: configs/nano.yaml, configs/sd3-medium. Methods: "
              "docs/methods.md."};
}

// One that died after its summary lacks its report alone.
void report_on(const AlignConfig& config, RunEnd end) {
  const std::string report = config.run + "/report.html";
  if (end == RunEnd::kFinishedBefore && std::filesystem::exists(report)) return;
  write_report(config.run);
  print_result("report: " + report);
}

}  // namespace

int align(const Call& call) {
  AlignConfig config;
  const auto line = read_settings(call, syntax(), config);
  if (!line) return kDone;
  if (config.resume) check_not_moved(line->file, config.run);
  set_threads(config.threads);
  catch_interrupts_saying(kStopping);
  const Place place = place_of_process();
  see_own_gpu(place);
  const DeviceScope device(config.device);
  const Group group = open_group(place, config.dist);
  const bool on_gpu = !device.device().is_cpu();
  const auto within_limit = [&](const AlignConfig& asked, const ModelShape& shape) {
    check_memory_limit(asked, shape, on_gpu, group.size());
  };
  std::optional<RunPage> page;
  if (config.page > 0 && group.leads()) {
    page.emplace(config.run, config.page);
    log_line("live page: " + page->url());  // before there is a log: who reads that may not press
  }
  return as_one_of(group, [&] {
    const RunEnd end =
        vggflow::align(config, group, within_limit, page ? page->control() : nullptr);
    if (end == RunEnd::kInterrupted) return kInterrupted;
    if (group.leads()) report_on(config, end);
    return kDone;
  });
}

}  // namespace vggflow::cli
