#pragma once
// Opens whatever flow model a path names, by the families of registry.h.

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "vggflow/families/sd3/model.h"
#include "vggflow/flow/flow_model.h"
#include "vggflow/flow/model_shape.h"
#include "vggflow/flow/precision.h"
#include "vggflow/weights/merged_model.h"

namespace vggflow {

struct ModelOptions {
  std::string model = "models/nano";
  Precision precision = Precision::kAuto;
  bool checkpointing = false;
  Offload offload = Offload::kNone;
  Weights weights = Weights::kResident;
  Sd3Options sd3;

  template <class V>
  void fields(V& v) {
    v("model", model,
      "the flow model: a nano folder, a Stable Diffusion 3 folder in diffusers' layout, its "
      "org/name in the Hugging Face cache, or a single file");
    v("precision", precision,
      "number format of the frozen weights and matrix products; auto: bf16 if the device supports "
      "it");
    v("checkpointing", checkpointing,
      "gradient checkpointing: recompute the activations of the network's and the decoder's blocks "
      "in the backward pass; less memory, one more forward pass");
    v("offload", offload,
      "blocks: keep the network's frozen block weights in host memory, with two blocks at a time "
      "on the GPU, for networks larger than the GPU's memory");
    v("weights", weights,
      "sharded: each process holds a shard of the network's frozen block weights, and two whole "
      "blocks at a time, for networks larger than a process's memory");
    v.section("sd3", sd3);
  }
};

/// Where the files of a model are, for commands that look at nothing else of its settings.
struct ModelSource {
  std::string model;
  std::string config = {};
  std::string variant = {};
  std::string revision = Sd3Options{}.revision;

  template <class V>
  void fields(V& v) {
    v("model_config", config,
      "for a single-file model: a diffusers folder with its configurations and tokenizers");
    v("variant", variant,
      "variant of the weight files, such as fp16; components that lack it use the default files");
    v("revision", revision,
      "branch, tag or commit of a model in the Hugging Face cache (org/name)");
  }
};

/// The model of these files in fp32.
ModelOptions options_of(const ModelSource& files);

/// Writes a model's files again (Family::write). A path that no family claims, and a family that
/// writes none, are refused.
WrittenModel write_model(const ModelSource& files, const std::filesystem::path& out,
                         const ModelCopy& copy);

/// options.model, but for a folder that came with the program: that is found from any working
/// folder (core/shipped_files.h).
std::filesystem::path model_path(const ModelOptions& options);

/// Frozen, in options.precision; of several processes all make this call. A path that no family
/// claims is refused with what was looked for.
std::unique_ptr<FlowModel> open_flow_model(const ModelOptions& options, const Group& group = {});

/// Refuses a folder that is no model's, and settings that the model's family would ignore.
void check_model_options(const ModelOptions& options);

/// Throws where images of these settings cannot be made by a model of this shape.
void check_model_sizes(const ModelOptions& options, const ModelShape& shape);

/// The shape of options.model: config.json and config.yaml are read, and of the weights the
/// safetensors header alone.
ModelShape read_model_shape(const ModelOptions& options);

/// The shape of the same model under other settings; its files are not opened again.
ModelShape reshaped(const ModelShape& shape, const ModelOptions& options);

/// Whether a folder holds a model of any family, or points into the Hugging Face cache.
bool is_model_folder(const std::filesystem::path& folder);

/// What guidance leads away from, by the settings: empty is the empty prompt.
const std::string& negative_prompt(const ModelOptions& options);

/// Whether the model brings the captions that it was trained on and a judge for them, so that a run
/// needs no prompts: the emoji's, of a nano without a decoder.
bool has_own_prompts(const ModelOptions& options);

/// How many images of states (C, h, w) are drawn at once: `batch`, or where that is 0, 64 of a
/// model whose states are images, and of latents as many as together have the positions of 64
/// latents of 16 x 16 (images of 128 x 128 pixels), 64 at most and one at least.
int64_t images_at_once(int64_t batch, const std::vector<int64_t>& state_shape);

}  // namespace vggflow
