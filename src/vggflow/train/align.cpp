#include "vggflow/train/align.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/core/log.h"
#include "vggflow/device/device.h"
#include "vggflow/families/lora.h"
#include "vggflow/train/checkpoint.h"
#include "vggflow/train/run_folder.h"
#include "vggflow/train/trainer.h"

namespace vggflow {
namespace fs = std::filesystem;
namespace {

// The adapters that a new run starts from. The settings of fresh ones become theirs, so that
// config.yaml says what was trained.
std::vector<LoraLayer> take_init_lora(AlignConfig& c) {
  if (c.init_lora.empty()) return {};
  std::vector<LoraLayer> layers = read_lora(c.init_lora).layers;
  const auto largest =
      std::max_element(layers.begin(), layers.end(),
                       [](const auto& a, const auto& b) { return a.rank() < b.rank(); });
  c.lora_rank = largest->rank();
  c.lora_alpha = largest->scale * static_cast<double>(c.lora_rank);
  c.lora_targets.clear();
  for (const LoraLayer& layer : layers) c.lora_targets.push_back(layer.path);
  return layers;
}

// Whether the run has all its updates and their summary; one with fewer is refused.
bool is_finished(const AlignConfig& c) {
  const int64_t done = last_checkpoint(c.run).value_or(0);
  VGGFLOW_CHECK(done <= c.updates,
                "[resume] expected updates={} or more, as many as {} has, got {}", done, c.run,
                c.updates);
  return done == c.updates && fs::exists(fs::path(c.run) / "summary.json");
}

}  // namespace

RunEnd align(AlignConfig& config, const RunCheck& check) {
  const std::vector<LoraLayer> start = take_init_lora(config);
  std::shared_ptr<const FamilyModel> model = check_run(config, check);
  const RunFolder folder(config.run);
  ChangedSettings changed;
  if (config.resume) {
    changed = folder.go_on(config);
    if (is_finished(config)) {
      log_info(
          "{} is finished after update {}: nothing was changed. A larger updates=... goes on from "
          "there",
          config.run, config.updates);
      return RunEnd::kFinishedBefore;
    }
  } else {
    folder.begin();
  }
  open_log(fs::path(config.run) / "log.txt");
  log_info("device: {}", device_description());
  if (!start.empty())
    log_info("the adapters start from {}: {} layers of rank {}", config.init_lora, start.size(),
             config.lora_rank);
  if (!changed.rounding.empty())
    log_info("{} changed since the run's start: its numbers may now differ by rounding",
             fmt::join(changed.rounding, ", "));
  Trainer trainer(config, std::move(model), start, changed.evaluations);
  folder.save(config);
  return trainer.run();
}

}  // namespace vggflow
