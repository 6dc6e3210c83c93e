#pragma once
// The settings of an alignment run, one field list for files, overrides, help and the run's own
// config.yaml.

#include <cstdint>
#include <string>
#include <vector>

#include "vggflow/algorithms/registry.h"
#include "vggflow/data/prompt_source.h"
#include "vggflow/device/device.h"
#include "vggflow/dist/options.h"
#include "vggflow/eval/evaluate.h"
#include "vggflow/families/open_model.h"
#include "vggflow/families/value_network.h"
#include "vggflow/flow/sampling.h"
#include "vggflow/rewards/reward.h"
#include "vggflow/train/beta_steering.h"
#include "vggflow/train/image_problem.h"
#include "vggflow/train/optimizer.h"
#include "vggflow/weights/lora_formats.h"

namespace vggflow {

/// What a resume does where its numbers may differ by rounding from those of a run of one piece:
/// other threads, micro_batch, checkpointing, device, deterministic, tf32 or kernels.
enum class Rounding {
  kAuto,   ///< kRefuse in a run of shares or on several processes, else kAllow
  kAllow,  ///< a line in the log that names what changed
  kRefuse  ///< an error that names it
};
inline OptionWords<Rounding> option_words(Rounding) {
  return {{"auto", Rounding::kAuto}, {"allow", Rounding::kAllow}, {"refuse", Rounding::kRefuse}};
}

struct AlignConfig {
  std::string run = "runs/nano";
  std::string method = default_method();
  bool resume = false;
  Rounding rounding = Rounding::kAuto;
  int64_t seed = 0;
  int64_t threads = 0;
  DeviceOptions device;
  double memory_limit = 0;
  int64_t page = 0;
  ModelOptions flow;
  std::string reward = "emoji-clip";
  RewardFiles reward_files;
  std::string judge = "models/judge";
  int64_t updates = 60;
  int64_t batch = 16;
  int64_t shares = 0;
  DistOptions dist;
  int64_t micro_batch = 80;
  ImageProblemOptions problem{.guidance_in = {GuidedCall::kAuto}};
  int64_t warmup = 5;
  int64_t beta_warmup = 0;
  double grad_clip = 1.0;
  double ema_decay = 0.95;
  int64_t checkpoint_every = 20;
  int64_t eval_every = 30;
  int64_t eval_steps = 0;
  std::string base_cache;
  int64_t grid_images = 64;
  int64_t lora_rank = 8;
  double lora_alpha = 8;
  std::vector<std::string> lora_targets{
      "transformer_blocks.*.attn.to_q", "transformer_blocks.*.attn.to_k",
      "transformer_blocks.*.attn.to_v", "transformer_blocks.*.attn.to_out.0"};
  std::string init_lora;
  TextAdapters init_lora_text_encoders = TextAdapters::kRefuse;
  PromptFiles prompts;
  EmojiOptions data;
  TimeGridOptions time_grid;
  MethodOptions methods;
  BetaOptions beta;
  MonitorOptions monitor;
  ValueOptions value;
  AdamWOptions policy_optimizer;
  AdamWOptions value_optimizer;
  EvalOptions eval;

  template <class V>
  void fields(V& v) {
    v("run", run, "folder of the run");
    v("method", method, "alignment method", choices(method_names()));
    v("resume", resume,
      "resume from the run's last checkpoint; a finished run continues if updates is larger");
    v("rounding", rounding,
      "what a resume does if its numbers may differ by rounding (other threads, micro_batch, "
      "checkpointing, device, deterministic, tf32 or kernels): allow logs a line, refuse is an "
      "error; auto: refuse in a run of shares or on several processes, else allow");
    v("seed", seed, "random seed of prompts, noise, time bins and initialisation", range(0, 1e15));
    v("threads", threads, "CPU threads; 0: all", range(0, 1024));
    device.fields(v);
    v("memory_limit", memory_limit,
      "memory limit in GiB: of the GPU if the run uses one, else of the process. A run that "
      "vggflow plan estimates above it is refused before anything is loaded; 0: no limit",
      range(0, 1e6));
    v("page", page,
      "port of a live page with buttons to sample, save and stop, such as 8675; its address and "
      "token are printed at the start (docs/watch.md); 0: no page",
      range(0, 65535));
    flow.fields(v);
    v("reward", reward, "reward, or a weighted sum: 0.7*emoji-clip + 0.3*colorfulness");
    reward_files.fields(v);
    v("judge", judge, "folder of the judge; it scores only prompts that have a class");
    v.section("prompts", prompts);
    v("updates", updates, "updates of the policy", range(1, 1e7));
    v("batch", batch, "batch size: trajectories per update", range(1, 1e6));
    v("shares", shares,
      "shares of the batch whose gradients are summed in a fixed order, so that results depend on "
      "this number and not on the number of processes, which must divide it; 0: one for a single "
      "process, else one per process (up to 8 for latents)",
      range(0, 1e6));
    v.section("dist", dist);
    v("micro_batch", micro_batch, "transitions per forward and backward pass", range(1, 1e6));
    problem.fields(v);  // its keys have no section of their own
    v("warmup", warmup, "linear warmup of the learning rates, in updates", range(0, 1e6));
    v("beta_warmup", beta_warmup,
      "linear warmup of beta (of lambda for Adjoint Matching), in updates", range(0, 1e6));
    v("grad_clip", grad_clip, "gradient clipping: largest norm per network; 0: no clipping",
      range(0, 1e9));
    v("ema_decay", ema_decay, "decay of the exponential moving average (EMA) of the LoRA",
      range(0, 1));
    v("checkpoint_every", checkpoint_every, "updates between checkpoints", range(1, 1e7));
    v("eval_every", eval_every, "updates between evaluations", range(1, 1e7));
    v("eval_steps", eval_steps,
      "Euler steps for evaluations and image grids; 0: as in training. Not with an explicit time "
      "grid",
      range(0, 1000));
    v("base_cache", base_cache,
      "folder in which runs keep the figures of the base's images for each other: the first batch "
      "is drawn anew and has to agree bit for bit. Not on several processes; compare sets it for "
      "its runs; empty: none");
    v("grid_images", grid_images, "largest number of images in the grid of an evaluation",
      range(1, 64));
    v("lora_rank", lora_rank, "LoRA rank", range(1, 4096));
    v("lora_alpha", lora_alpha, "LoRA alpha: the adapters are scaled by alpha / rank",
      range(0, 1e6));
    v("lora_targets", lora_targets, "layers that get an adapter, as paths with * as a wildcard");
    v("init_lora", init_lora,
      "LoRA file of any layout to start from; lora_rank, lora_alpha and lora_targets are then "
      "taken from it; empty: fresh adapters that change nothing yet");
    v("init_lora_text_encoders", init_lora_text_encoders,
      "text-encoder adapters in init_lora, which cannot be trained here: refuse the file, or skip "
      "them");
    v.section("data", data);
    v.section("time_grid", time_grid);
    methods.fields(v);
    v.section("beta", beta);
    v.section("monitor", monitor);
    v.section("value", value);
    v.section("policy_optimizer", policy_optimizer);
    v.section("value_optimizer", value_optimizer);
    v.section("eval", eval);
  }
};

}  // namespace vggflow
