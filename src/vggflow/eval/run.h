#pragma once
// The stand-alone jobs over a model with or without a LoRA: sampling to PNG files, and the
// comparison of a LoRA with its base.

#include <memory>
#include <string>
#include <vector>

#include "vggflow/data/prompt_source.h"
#include "vggflow/device/device.h"
#include "vggflow/dist/group.h"
#include "vggflow/dist/options.h"
#include "vggflow/eval/evaluate.h"
#include "vggflow/eval/guide.h"
#include "vggflow/families/lora.h"
#include "vggflow/families/open_model.h"
#include "vggflow/flow/adapted_flow.h"
#include "vggflow/flow/sampling.h"

namespace vggflow {

/// What sampling needs of a model: folder, adapter, guidance, grid.
struct GeneratorOptions {
  ModelOptions flow;
  std::string lora;
  TextAdapters lora_text_encoders = TextAdapters::kRefuse;
  double lora_scale = 1.0;
  double guidance = 3.0;
  TimeGridOptions time_grid;
  GuideOptions guide;

  template <class V>
  void fields(V& v) {
    flow.fields(v);
    v("lora", lora, "LoRA: a diffusers or kohya file, or a PEFT folder; empty: the base model");
    v("lora_text_encoders", lora_text_encoders,
      "text-encoder adapters in the LoRA, which are not supported: refuse the file, or skip them");
    v("lora_scale", lora_scale, "LoRA strength", range(-10, 10));
    v("guidance", guidance, "classifier-free guidance scale; 1: no guidance", range(0, 100));
    v.section("time_grid", time_grid);
    v.section("guide", guide);
  }
  /// Whether there is anything besides the base model.
  bool aligned() const { return !lora.empty() || guide.kind != GuideKind::kNone; }
};

/// A model with an adapter and value-gradient guidance that can be switched.
class Generator {
 public:
  /// Of several processes all make one, and draw with it as often (Group::deal).
  explicit Generator(const GeneratorOptions& options, const Group& group = {});
  /// Images (n, 3, H, W), about [-1, 1], of captions from noise (n, C, h, w), with adapter (merged)
  /// and guidance, or of the base model.
  Tensor generate(const std::vector<std::string>& captions, const Tensor& noise,
                  bool aligned) const;
  /// The end points x_1 (n, C, h, w) of the same.
  Tensor latents(const std::vector<std::string>& captions, const Tensor& noise, bool aligned) const;
  /// The adapter acts with `strength` times lora_scale from now on.
  void set_strength(double strength);
  const FlowModel& model() const { return *model_; }
  const std::vector<double>& times() const { return times_; }
  /// The reward that the LoRA was trained on, as a run wrote it into the file; empty where the file
  /// does not say, as other programs' do not.
  const std::string& trained_reward() const { return trained_reward_; }

 private:
  GeneratorOptions options_;
  std::unique_ptr<FlowModel> model_;
  std::unique_ptr<AdaptedFlow> adapted_;  ///< null without a LoRA
  std::unique_ptr<ValueGuide> guide_;
  std::vector<double> times_;
  std::string trained_reward_;
};

struct SampleConfig {
  std::string out = "samples";
  std::vector<std::string> prompts;
  std::string prompts_file;
  int64_t images = 1;
  int64_t seed = 0;
  std::vector<int64_t> seeds;
  int64_t batch = 0;
  int64_t enlarge = 1;
  int64_t threads = 0;
  DeviceOptions device;
  DistOptions dist;
  GeneratorOptions generator;

  template <class V>
  void fields(V& v) {
    v("out", out, "folder of the images");
    v("prompts", prompts,
      "prompts: [red heart, ghost]; empty without a file: the 64 display captions of the emoji "
      "model nano");
    v("prompts_file", prompts_file,
      "file of prompts: one per line, or the column 'prompt' of a CSV, TSV or JSON file");
    v("images", images, "images per prompt", range(1, 100000));
    v("seed", seed, "random seed of each prompt's first image; further images use the next seeds",
      range(0, 1e15));
    v("seeds", seeds, "one random seed per image of a prompt, instead of images and seed");
    v("batch", batch,
      "batch size for sampling; 0: 64, and for latents fewer: as many as have the pixels of 64 "
      "images of 128 x 128",
      range(0, 100000));
    v("enlarge", enlarge, "integer upscaling factor of the PNG files", range(1, 64));
    v("threads", threads, "CPU threads; 0: all", range(0, 1024));
    device.fields(v);
    v.section("dist", dist);
    v.section("generator", generator);
  }
};

/// Throws, before anything is drawn, where neither `files` nor the model's own captions
/// (has_own_prompts) say what to draw.
void require_prompts(const ModelOptions& model, const PromptFiles& files);

/// Threads of all CPU work; 0 leaves all.
void set_threads(int64_t threads);

/// Writes one PNG per image (settings in its text chunks) and grid.png. The processes of `group`
/// draw the images between them, and rank 0 writes them; all return once they lie there. So it is
/// with the jobs below.
void sample_images(const SampleConfig& config, const Group& group = {});

struct EvalConfig {
  std::string out;
  std::string reward = "auto";
  RewardFiles reward_files;
  std::string judge = "models/judge";
  Split split = Split::kHeldOut;
  PromptFiles prompts;
  int64_t threads = 0;
  DeviceOptions device;
  DistOptions dist;
  GeneratorOptions generator;
  EmojiOptions data;
  EvalOptions eval;

  template <class V>
  void fields(V& v) {
    v("out", out, "JSON file to write; empty: print only");
    v("reward", reward,
      "reward, or a weighted sum; auto: the reward that the LoRA was trained on, or emoji-clip if "
      "its file does not say");
    reward_files.fields(v);
    v("judge", judge, "folder of the judge; it scores only prompts that have a class");
    v.section("prompts", prompts);
    v("split", split, "prompt split");
    v("threads", threads, "CPU threads; 0: all", range(0, 1024));
    device.fields(v);
    v.section("dist", dist);
    v.section("generator", generator);
    v.section("data", data);
    v.section("eval", eval);
  }
};

/// Evaluates the base and, where given, the LoRA; prints and writes both.
void run_eval(const EvalConfig& config, const Group& group = {});

/// What a comparison with the base needs of an EvalConfig: its reward, judge, panel and prompts.
struct EvalSetup {
  EvalSetup(const EvalConfig& config, const Generator& generator, const Group& group);
  std::string reward_name;  ///< config.reward, or what its auto stands for
  std::unique_ptr<PromptSource> source;
  std::unique_ptr<Reward> reward;
  std::unique_ptr<ImageJudge> judge;
  std::unique_ptr<Evaluator> evaluator;
};

}  // namespace vggflow
