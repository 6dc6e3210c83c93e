#include "vggflow/train/align.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "vggflow/core/config.h"
#include "vggflow/core/error.h"
#include "vggflow/core/json.h"
#include "vggflow/core/log.h"
#include "vggflow/device/device.h"
#include "vggflow/families/lora.h"
#include "vggflow/io/files.h"
#include "vggflow/train/checkpoint.h"
#include "vggflow/train/checks.h"
#include "vggflow/train/run_folder.h"
#include "vggflow/train/shares.h"
#include "vggflow/train/trainer.h"

namespace vggflow {
namespace fs = std::filesystem;
namespace {

// Of a run whose state is in a checkpoint, the settings that its init_lora gave: the file is not
// needed any more.
bool take_from_checkpoint(AlignConfig& c) {
  const fs::path before = fs::path(c.run) / "config.yaml";
  if (!c.resume || !fs::exists(before) || !last_checkpoint(c.run)) return false;
  AlignConfig begun;
  load_yaml(fields_of(begun), before);
  if (begun.init_lora != c.init_lora) return false;
  c.lora_rank = begun.lora_rank;
  c.lora_alpha = begun.lora_alpha;
  c.lora_targets = begun.lora_targets;
  return true;
}

// The adapters that a new run starts from. The settings of fresh ones become theirs, so that
// config.yaml says what was trained.
std::vector<LoraLayer> take_init_lora(AlignConfig& c) {
  if (c.init_lora.empty() || take_from_checkpoint(c)) return {};
  std::vector<LoraLayer> layers = read_lora(c.init_lora, c.init_lora_text_encoders).layers;
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
  const std::optional<int64_t> last = last_checkpoint(c.run);
  const bool results = fs::exists(fs::path(c.run) / "summary.json") ||
                       fs::exists(fs::path(c.run) / "lora.safetensors");
  VGGFLOW_CHECK(last || !results,
                "[resume] {} holds a run's results, but no checkpoint to go on from: expected one "
                "in its checkpoints/. Put that folder back, or start a new run from the adapters "
                "with init_lora={}/lora.safetensors and another run=FOLDER",
                c.run, c.run);
  const int64_t done = last.value_or(0);
  VGGFLOW_CHECK(done <= c.updates,
                "[resume] expected updates={} or more, as many as {} has, got {}", done, c.run,
                c.updates);
  return done == c.updates && fs::exists(fs::path(c.run) / "summary.json");
}

// What rank 0 finds in the run's folder.
struct Opening {
  ChangedSettings changed;
  bool finished = false;
};

// A run's number of shares is fixed at its start; 0 is a run's of one process, with one share.
// Guidance where the method asks for it may be in words or auto.
void settle(AlignConfig& now, AlignConfig& before) {
  if (now.shares == 0) now.shares = before.shares;
  if (now.shares == 1 && before.shares == 0) before.shares = 1;
  const auto guided = [](const AlignConfig& c) { return ResolvedMethod(c).problem.guidance_in; };
  if (guided(now) == guided(before)) now.problem.guidance_in = before.problem.guidance_in;
}

Opening open_run(AlignConfig& c, const ModelShape& shape, const Group& group,
                 std::optional<RunFolder>& folder) {
  Opening out;
  group.lead([&] {
    folder.emplace(c.run);
    if (group.started_again() && fs::exists(fs::path(c.run) / "config.yaml")) c.resume = true;
    if (c.resume) {
      out.changed = folder->go_on(c, settle);
      // What computed is in the checkpoint, which tells more than the setting's words.
      std::erase(out.changed.rounding, "device");
      VGGFLOW_CHECK(
          out.changed.rounding.empty() || !refuses_rounding(c, group.size()),
          "[resume] expected {} to be as at the start of {}, so that its numbers are those of a "
          "run of one piece to the last bit; put back what differs, or pass rounding=allow",
          fmt::join(out.changed.rounding, ", "), c.run);
      out.finished = is_finished(c);
    } else {
      folder->begin();
      if (c.shares == 0 && group.size() > 1)
        c.shares = default_shares(c.batch, group.size(), has_latents(shape));
    }
  });
  const Json told =
      parse_json(group.broadcast(json_text(Json{{"shares", c.shares},
                                                {"resume", c.resume},
                                                {"finished", out.finished},
                                                {"evaluations", out.changed.evaluations}})),
                 "rank 0's word on the run");
  c.shares = told.at("shares").get<int64_t>();
  c.resume = told.at("resume").get<bool>();
  out.finished = told.at("finished").get<bool>();
  out.changed.evaluations = told.at("evaluations").get<bool>();
  return out;
}

// Rank 0 has the terminal and log.txt; each other rank a file of its own.
void open_log_of(const AlignConfig& c, const Group& group) {
  const fs::path run = c.run;
  if (!group.leads()) {
    make_writable_folder(run);
    keep_off_terminal();
  }
  open_log(run / (group.leads() ? "log.txt" : fmt::format("log.rank{}.txt", group.rank())));
  log_info("device: {}", device_description());
  if (group.size() > 1) log_info("rank {} of {}", group.rank(), group.size());
}

}  // namespace

RunEnd align(AlignConfig& config, const Group& group, const RunCheck& check, RunControl* control) {
  const std::vector<LoraLayer> start = take_init_lora(config);
  std::shared_ptr<const FamilyModel> model = check_run(config, check);
  agree_on_settings(group, fields_of(config));
  std::optional<RunFolder> folder;
  const Opening opening = open_run(config, model->shape(), group, folder);
  if (opening.finished) {
    if (!group.leads()) keep_off_terminal();
    log_info(
        "{} is finished after update {}: nothing was changed. A larger updates=... goes on from "
        "there",
        config.run, config.updates);
    return RunEnd::kFinishedBefore;
  }
  VGGFLOW_CHECK(group.size() == 1 || config.base_cache.empty(),
                "[align] expected no base_cache on several processes, which draw the base's images "
                "between them, got {}",
                config.base_cache);
  const Shares fitting(group, config.shares, config.batch);  // refused before anything is written
  open_log_of(config, group);
  if (!start.empty())
    log_info(
        "the adapters start from {}: {} layers of rank {} (lora_rank, lora_alpha and lora_targets "
        "are that file's). The evaluation after 0 updates is the base's, without them",
        config.init_lora, start.size(), config.lora_rank);
  if (!opening.changed.rounding.empty())
    log_info("{} changed since the run's start: its numbers may now differ by rounding",
             fmt::join(opening.changed.rounding, ", "));
  Trainer trainer(config, std::move(model), start, opening.changed.evaluations, group, control);
  if (folder) folder->save(config);
  return trainer.run();
}

}  // namespace vggflow
