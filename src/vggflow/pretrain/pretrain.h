#pragma once
// Pre-training on emoji, or on the latents of photographs: the nano flow model by flow matching
// (Lipman et al. 2023; logit-normal times: Esser et al. 2024), emoji-clip by the symmetric
// contrastive loss (Radford et al. 2021), the judge and class heads by cross entropy, vote heads by
// the Bradley-Terry likelihood.

#include <string>

#include "vggflow/data/augment.h"
#include "vggflow/data/captions.h"
#include "vggflow/device/device.h"
#include "vggflow/families/nano/model.h"
#include "vggflow/flow/precision.h"
#include "vggflow/networks/vision/emoji_clip.h"
#include "vggflow/networks/vision/judge.h"
#include "vggflow/networks/vision/vote_head.h"
#include "vggflow/pretrain/class_head_fit.h"
#include "vggflow/pretrain/vote_head_fit.h"

namespace vggflow {

/// What is trained.
enum class PretrainTarget { kFlow, kEmojiClip, kJudge, kClassHead, kVoteHead };
inline OptionWords<PretrainTarget> option_words(PretrainTarget) {
  return {{"flow", PretrainTarget::kFlow},
          {"emoji-clip", PretrainTarget::kEmojiClip},
          {"judge", PretrainTarget::kJudge},
          {"class-head", PretrainTarget::kClassHead},
          {"vote-head", PretrainTarget::kVoteHead}};
}

struct PretrainConfig {
  std::string run = "runs/nano_base";
  PretrainTarget target = PretrainTarget::kFlow;
  std::string latents;
  std::string taesd;
  bool resume = false;
  Precision precision = Precision::kAuto;
  int64_t threads = 0;
  DeviceOptions device;
  double time_mean = 0.0;
  double time_sd = 1.0;
  double preview_guidance = 3.0;
  double adversarial = 0.0;
  EmojiOptions data;
  CaptionOptions captions;
  AugmentOptions augment;
  NanoOptions model;
  EmojiClipOptions clip;
  JudgeOptions judge;
  ClassHeadOptions head;
  HeadData head_data;
  VoteHeadOptions vote;
  VoteData vote_data;
  FitOptions fit;

  template <class V>
  void fields(V& v) {
    v("run", run, "folder of the run");
    v("target", target, "what to train");
    v("latents", latents,
      "training latents for a flow model with a decoder, from `vggflow prepare`; empty: emoji "
      "images");
    v("taesd", taesd, "folder of taesd3_decoder.safetensors; empty: $VGGFLOW_ASSETS/taesd3");
    v("resume", resume, "resume from the run's last checkpoint");
    v("precision", precision,
      "number format of matrix products; auto: bf16 if the processor supports it");
    v("threads", threads, "CPU threads; 0: all", range(0, 1024));
    device.fields(v);
    v("time_mean", time_mean, "mean of the logit of t", range(-5, 5));
    v("time_sd", time_sd, "standard deviation of the logit of t", range(0.01, 10));
    v("preview_guidance", preview_guidance, "guidance scale of the preview grids", range(0, 100));
    v("adversarial", adversarial,
      "emoji-clip only: L2 norm of a one-step adversarial perturbation of each image, with pixels "
      "in [0, 1]; 0: none",
      range(0, 100));
    v.section("data", data);
    v.section("captions", captions);
    v.section("augment", augment);
    v.section("model", model);
    v.section("clip", clip);
    v.section("judge", judge);
    v.section("head", head);
    v.section("head_data", head_data);
    v.section("vote", vote);
    v.section("vote_data", vote_data);
    v.section("fit", fit);
  }
};

/// Refuses the first setting that differs from its default and that config.target does not read,
/// naming a target that does. `latents` and model.decoder decide too: a model of emoji reads no
/// taesd, one of latents no data.
void check_settings_of_target(const PretrainConfig& config);

/// Trains the target and writes the model folder run/model.
void pretrain(PretrainConfig& config);

}  // namespace vggflow
