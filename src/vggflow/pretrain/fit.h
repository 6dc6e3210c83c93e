#pragma once
// The loop that trains a network from data: the flow model, the reward models and the judge all run
// through it.

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "vggflow/core/field.h"
#include "vggflow/train/optimizer.h"

namespace vggflow {

struct FitOptions {
  int64_t updates = 9000;
  int64_t batch = 96;
  int64_t seed = 0;
  int64_t warmup = 200;
  double final_lr = 0.02;
  double ema_decay = 0.999;
  double grad_clip = 1.0;
  int64_t checkpoint_every = 500;
  int64_t log_every = 50;
  int64_t preview_every = 1000;
  AdamWOptions optimizer;

  template <class V>
  void fields(V& v) {
    v("updates", updates, "updates of the weights; the cosine schedule ends there", range(1, 1e8));
    v("batch", batch, "batch size: images per update", range(1, 1e6));
    v("seed", seed, "random seed of initialisation, data order and noise", range(0, 1e15));
    v("warmup", warmup, "linear warmup of the learning rate, in updates", range(0, 1e6));
    v("final_lr", final_lr, "final learning rate, as a fraction of its peak", range(0, 1));
    v("ema_decay", ema_decay,
      "decay of the exponential moving average (EMA) of the weights, which is what is saved",
      range(0, 1));
    v("grad_clip", grad_clip, "gradient clipping: largest norm; 0: no clipping", range(0, 1e9));
    v("checkpoint_every", checkpoint_every, "updates between checkpoints", range(1, 1e8));
    v("log_every", log_every, "updates between log lines", range(1, 1e8));
    v("preview_every", preview_every, "updates between previews", range(1, 1e8));
    v.section("optimizer", optimizer);
  }
};

/// What fit trains.
struct FitTask {
  Module& network;
  /// Mean loss of one update's batch; everything random is keyed by the update.
  std::function<Tensor(int64_t update)> loss;
  /// Called with the averaged weights in place, every preview_every updates and at the end.
  std::function<void(int64_t update)> preview;
};

/// One line of the loss curve.
struct LossPoint {
  int64_t update;
  double loss;
};

/// Trains, with a checkpoint every few updates in `run`/checkpoints; with `resume` it goes on from
/// the last complete one. Leaves the averaged weights in the network. Returns the loss curve, or
/// nothing when interrupted.
std::vector<LossPoint> fit(FitTask task, const FitOptions& options,
                           const std::filesystem::path& run, bool resume);

}  // namespace vggflow
