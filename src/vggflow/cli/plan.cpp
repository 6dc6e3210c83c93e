#include "vggflow/plan/plan.h"
#include "vggflow/core/json.h"

#include <cstdio>

#include "vggflow/cli/command.h"
#include "vggflow/cli/commands.h"
#include "vggflow/cli/run_folder.h"
#include "vggflow/core/visible.h"
#include "vggflow/device/installation.h"
#include "vggflow/eval/run.h"
#include "vggflow/flow/precision.h"

namespace vggflow::cli {
namespace {

struct PlanConfig {
  bool json = false;
  double gflops = 0;
  int64_t ranks = 1;
  AlignConfig align;

  template <class V>
  void fields(V& v) {
    v("json", json, "for programs: bytes, operations and seconds");
    v("gflops", gflops,
      "rate of this machine's matrix products in GFLOP/s; 0: it is measured, for a second",
      range(0, 1e9));
    v("ranks", ranks,
      "processes that the run has, each with a device of its own: memory is of each, time of all "
      "together",
      range(1, 100000));
    align.fields(v);
  }
};

Syntax syntax() {
  return {.flags = {{"--json", "json"}, {"--gflops", "gflops"}, {"--ranks", "ranks"}},
          .common = {"model", "method", "reward", "updates", "batch", "micro_batch", "merge",
                     "checkpointing", "precision", "lora_rank", "time_grid.steps", "value.kind",
                     "device"},
          .notes =
              "Settings are those of align. Nothing is loaded: configurations and the headers "
              "of weight files are read. How far it can be trusted: docs/plan.md.",
          .opens_nothing = true};
}

}  // namespace

int plan(const Call& call) {
  PlanConfig config;
  if (!read_settings(call, syntax(), config)) return kDone;
  const AlignConfig& align = config.align;
  set_threads(align.threads);
  const ModelShape shape = read_model_shape(align.flow);
  std::vector<Device> devices = known_devices(device::missing_for_cuda());
  devices.push_back(this_machine(precision_dtype(align.flow.precision), 1e9 * config.gflops));
  const auto ranks = static_cast<int>(config.ranks);
  const Plan found = vggflow::plan(align, shape, ranks);
  const auto all = switches(align, shape, ranks);
  const std::string text = config.json ? json_text(plan_json(found, all, devices), 2) + "\n"
                                       : visible(plan_text(align, shape, found, all, devices));
  std::fputs(text.c_str(), stdout);
  return kDone;
}

}  // namespace vggflow::cli
