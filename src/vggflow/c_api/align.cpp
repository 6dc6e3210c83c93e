#include "vggflow/c_api/align.h"

#include <numeric>
#include <optional>

#include "vggflow/core/command_line.h"
#include "vggflow/core/error.h"
#include "vggflow/core/interrupt.h"
#include "vggflow/core/json.h"
#include "vggflow/core/log.h"
#include "vggflow/core/trust.h"
#include "vggflow/device/device.h"
#include "vggflow/eval/run.h"
#include "vggflow/plan/plan.h"
#include "vggflow/report/page.h"
#include "vggflow/report/report.h"
#include "vggflow/train/align.h"
#include "vggflow/train/run_control.h"

namespace vggflow::c_api {
namespace {

double sum_of(const Json& numbers) {
  return std::accumulate(numbers.begin(), numbers.end(), 0.0, [](double sum, const Json& x) {
    return sum + (x.is_number() ? x.get<double>() : 0.0);
  });
}

class Callback : public RunControl {
 public:
  Callback(vggflow_on_update function, void* user, int64_t updates)
      : function_(function), user_(user), updates_(updates) {}
  void updated(const Json& line, const Json& evaluation) override {
    const std::string text = json_text(line),
                      evaluated = evaluation.empty() ? "" : json_text(evaluation);
    const vggflow_update update{.update = line.at("update").get<int64_t>(),
                                .updates = updates_,
                                .reward_mean = number(line, "/reward/mean"),
                                .reward_sd = number(line, "/reward/sd"),
                                .grad_norm = number(line, "/grad_norm/policy"),
                                .lr = number(line, "/lr"),
                                .seconds = sum_of(line.at("seconds")),
                                .images_per_second = number(line, "/images_per_second"),
                                .line = text.c_str(),
                                .evaluation = evaluated.c_str()};
    stop_ = function_(&update, user_) != 0;
  }
  RunWishes take() override { return {.stop = stop_, .save = false, .samples = {}}; }
  void saved(int64_t) override {}
  // Nothing is ever wished for that is drawn.
  void drawn(const SampleWish&, int64_t, const Image&, const Image&) override {}
  void failed(const SampleWish&, const std::string&) override {}

 private:
  vggflow_on_update function_;
  void* user_;
  int64_t updates_;
  bool stop_ = false;
};

AlignConfig read(const std::vector<std::string>& words) {
  AlignConfig config;
  const Fields fields = fields_of(config);
  const Call call{.command = "align", .summary = {}, .words = words};
  const CommandLine line = parse_command_line(call, {}, fields);
  VGGFLOW_CHECK(line.help == CommandLine::Help::kNone,
                "[align] expected settings, got --help: docs/reference/align.md lists them");
  apply_command_line(line, call, {}, fields);
  check_trust(line, call.command, fields, line.settings);
  VGGFLOW_CHECK(config.page == 0,
                "[align] expected page=0, got {}: the live page is the program's. `vggflow watch "
                "{}` shows this run",
                config.page, config.run);
  return config;
}

bool takes_interrupts = false;
bool running = false;

// The log belongs to the run's folder and Ctrl-C to the run; both end with it.
class RunScope {
 public:
  RunScope() {
    VGGFLOW_CHECK(!running,
                  "[align] a run is under way in this process: its callback cannot start "
                  "another");
    running = true;
    if (takes_interrupts)
      interrupts_.emplace("stopping after this update, which is saved; Ctrl-C again ends now");
  }
  ~RunScope() {
    close_log();
    running = false;
  }
  RunScope(const RunScope&) = delete;
  RunScope& operator=(const RunScope&) = delete;

 private:
  std::optional<InterruptsScope> interrupts_;
};

int code_of(RunEnd end) {
  if (end == RunEnd::kFinished) return VGGFLOW_FINISHED;
  if (end == RunEnd::kFinishedBefore) return VGGFLOW_FINISHED_BEFORE;
  return takes_interrupts && interrupted() ? VGGFLOW_INTERRUPTED : VGGFLOW_STOPPED;
}

}  // namespace

void take_interrupts(bool taken) { takes_interrupts = taken; }

int align(const std::vector<std::string>& words, vggflow_on_update on_update, void* user) {
  const RunScope scope;
  AlignConfig config = read(words);
  set_threads(config.threads);
  const DeviceScope device(config.device);
  const bool on_gpu = !device.device().is_cpu();
  Callback callback(on_update, user, config.updates);
  const RunEnd end = vggflow::align(
      config, {},
      [&](const AlignConfig& asked, const ModelShape& shape) {
        check_memory_limit(asked, shape, on_gpu);
      },
      on_update ? &callback : nullptr);
  if (end == RunEnd::kFinished) write_report(config.run);
  return code_of(end);
}

}  // namespace vggflow::c_api
