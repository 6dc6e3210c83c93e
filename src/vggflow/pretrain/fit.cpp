#include "vggflow/pretrain/fit.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "vggflow/core/json.h"
#include "vggflow/core/log.h"
#include "vggflow/core/progress.h"
#include "vggflow/train/checkpoint.h"

namespace vggflow {
namespace {

struct FitState {
  explicit FitState(Module& network, const FitOptions& o)
      : buffer(network.parameters()), adamw(buffer, o.optimizer), ema(buffer, o.ema_decay) {}
  ParameterBuffer buffer;
  AdamW adamw;
  Ema ema;
  int64_t update = 0;
  std::vector<LossPoint> curve;
  double loss_sum = 0;  ///< since the curve's last point, over `losses` updates
  int64_t losses = 0;

  void save(const std::filesystem::path& run) {
    save_checkpoint(run, {update,
                          {{"values", buffer.values()},
                           {"ema", ema.values},
                           {"adamw_m", adamw.m},
                           {"adamw_v", adamw.v}},
                          {{"adamw_steps", fmt::to_string(adamw.steps)},
                           {"ema_updates", fmt::to_string(ema.updates)},
                           {"curve", curve_json().dump()}}});
  }
  void load(const Checkpoint& c) {
    update = c.update;
    buffer.values().copy_(checkpoint_tensor(c, "values", buffer.values()));
    ema.values.copy_(checkpoint_tensor(c, "ema", ema.values));
    adamw.m.copy_(checkpoint_tensor(c, "adamw_m", adamw.m));
    adamw.v.copy_(checkpoint_tensor(c, "adamw_v", adamw.v));
    adamw.steps = checkpoint_number(c, "adamw_steps");
    ema.updates = checkpoint_number(c, "ema_updates");
    const auto logged = parse_json(checkpoint_text(c, "curve"), "the checkpoint's curve");
    for (const auto& p : logged.at("points"))
      curve.push_back({p.at(0).get<int64_t>(), p.at(1).get<double>()});
    loss_sum = logged.at("sum").get<double>();
    losses = logged.at("count").get<int64_t>();
  }
  nlohmann::json curve_json() const {
    nlohmann::json points = nlohmann::json::array();
    for (const LossPoint& p : curve) points.push_back({p.update, p.loss});
    return {{"points", points}, {"sum", loss_sum}, {"count", losses}};
  }
};

}  // namespace

std::vector<LossPoint> fit(FitTask task, const FitOptions& options,
                           const std::filesystem::path& run, bool resume) {
  FitState state(task.network, options);
  if (const auto checkpoint = resume ? load_checkpoint(run) : std::nullopt) {
    state.load(*checkpoint);
    log_info("resumed at update {}", state.update);
  }
  Stopwatch watch;
  Progress progress("training", options.updates, state.update);
  while (state.update < options.updates) {
    state.buffer.zero_grad();
    const Tensor loss = task.loss(state.update);
    loss.backward();
    const double norm = state.buffer.clip(options.grad_clip);
    const double lr = options.optimizer.lr * cosine_schedule(state.update, options.warmup,
                                                             options.updates, options.final_lr);
    if (!state.adamw.step(lr, norm))
      log_info("update {}: gradient is not finite, skipped", state.update);
    state.ema.update(state.buffer);
    ++state.update;

    state.loss_sum += loss.item<double>();
    ++state.losses;
    const double average = state.loss_sum / static_cast<double>(state.losses);
    progress.advance(state.update, fmt::format("loss {:.4f}", average));
    if (state.update % options.log_every == 0) {
      state.curve.push_back({state.update, average});
      log_info("step {}/{} | loss {:.4f} | grad {:.3f} | lr {:.2e} | {:.0f} ms | {:.1f} GiB",
               state.update, options.updates, average, norm, lr,
               1e3 * watch.lap() / static_cast<double>(state.losses), memory_now_gib());
      state.loss_sum = 0;
      state.losses = 0;
    }
    if (state.update % options.checkpoint_every == 0 || interrupted()) state.save(run);
    if (interrupted()) {
      log_info(
          "interrupted after update {}; the state is saved, run again with resume=true to go on",
          state.update);
      return {};
    }
    if (task.preview && state.update % options.preview_every == 0 &&
        state.update < options.updates) {
      const ValuesScope averaged(state.buffer, state.ema.values);
      task.preview(state.update);
    }
  }
  state.save(run);
  state.buffer.values().copy_(state.ema.values);
  task.network.set_requires_grad(false);
  if (task.preview) task.preview(state.update);
  return state.curve;
}

}  // namespace vggflow
