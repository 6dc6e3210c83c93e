#include "vggflow/train/align.h"

#include <fmt/format.h>
#include <stdlib.h>

#include <chrono>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "vggflow/algorithms/registry.h"
#include "vggflow/cli/command.h"
#include "vggflow/cli/commands.h"
#include "vggflow/cli/run_folder.h"
#include "vggflow/core/error.h"
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

// A process of several sees the one GPU that is its own, where the device is not named.
void see_own_gpu(const Place& place) {
  if (place.size == 1) return;
  const char* given = std::getenv("CUDA_VISIBLE_DEVICES");
  ::setenv("CUDA_VISIBLE_DEVICES", own_gpu(given ? given : "", place.local_rank).c_str(), 1);
}

// What ends one process ends the others: they are told why.
RunEnd as_one_of(const Group& group, const std::function<RunEnd()>& run) {
  try {
    return run();
  } catch (const Interrupted&) {
    throw;
  } catch (const std::exception& e) {
    group.leave_word(e.what());
    if (group.size() == 1) throw;
    fail("{}{}", e.what(),
         std::string(e.what()).starts_with("[ranks]")
             ? ""
             : fmt::format(" (rank {} of {})", group.rank(), group.size()));
  }
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
  const Group group = Group::open(
      place, std::chrono::milliseconds(static_cast<int64_t>(1000 * config.dist.timeout)));
  const bool on_gpu = !device.device().is_cpu();
  const auto within_limit = [on_gpu](const AlignConfig& asked, const ModelShape& shape) {
    check_memory_limit(asked, shape, on_gpu);
  };
  std::optional<RunPage> page;
  if (config.page > 0 && group.leads()) {
    page.emplace(config.run, config.page);
    log_line("live page: " + page->url());  // before there is a log: who reads that may not press
  }
  const RunEnd end = as_one_of(group, [&] {
    return vggflow::align(config, group, within_limit, page ? page->control() : nullptr);
  });
  if (end == RunEnd::kInterrupted) return kInterrupted;
  if (!group.leads()) return kDone;
  // One that died after its summary lacks its report alone.
  const std::string report = config.run + "/report.html";
  if (end == RunEnd::kFinishedBefore && std::filesystem::exists(report)) return kDone;
  write_report(config.run);
  print_result("report: " + report);
  return kDone;
}

}  // namespace vggflow::cli
