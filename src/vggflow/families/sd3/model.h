#pragma once
// A whole Stable Diffusion 3 or 3.5 model: transformer, autoencoder, text encoders and the
// scheduler's settings, from a folder in diffusers' layout (or a snapshot of it in the Hugging Face
// cache) or from one file in Stability's layout. The frozen weights are views of the mapped files
// wherever their dtype is the one that is asked for.

#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "vggflow/core/field.h"
#include "vggflow/dist/group.h"
#include "vggflow/families/sd3/mmdit_network.h"
#include "vggflow/families/sd3/prompts.h"
#include "vggflow/io/model_files.h"
#include "vggflow/networks/autoencoders/autoencoder_kl.h"
#include "vggflow/networks/autoencoders/taesd.h"

namespace vggflow {

enum class Sd3Decoder {
  kVae,    ///< the model's own autoencoder
  kTaesd3  ///< a distilled one
};
inline OptionWords<Sd3Decoder> option_words(Sd3Decoder) {
  return {{"vae", Sd3Decoder::kVae}, {"taesd3", Sd3Decoder::kTaesd3}};
}

struct Sd3Options {
  std::string variant;
  std::string revision = "main";
  std::string config;
  int64_t height = 0;
  int64_t width = 0;
  Sd3Decoder decoder = Sd3Decoder::kVae;
  std::string taesd;
  bool tiling = false;
  std::string negative_prompt;
  bool t5 = true;
  int64_t t5_tokens = 256;
  std::string embedding_cache;

  template <class V>
  void fields(V& v) {
    v("variant", variant,
      "variant of the weight files, such as fp16; components that lack it use the default files; "
      "empty: the default files, or the only variant there is");
    v("revision", revision,
      "branch, tag or commit of a model in the Hugging Face cache (org/name)");
    v("config", config,
      "for a single-file checkpoint: a diffusers folder with its configs and tokenizers, and the "
      "text encoders if the file has none");
    v("height", height, "image height in pixels; 0: the size that the model was trained for",
      range(0, 65536));
    v("width", width, "image width in pixels; 0: the size that the model was trained for",
      range(0, 65536));
    v("decoder", decoder, "decoder of the latents: the model's autoencoder, or the tiny TAESD3");
    v("taesd", taesd,
      "folder of taesd3_decoder.safetensors, for decoder=taesd3 and for nano models that use it; "
      "empty: $VGGFLOW_ASSETS/taesd3");
    v("tiling", tiling, "decode large images in tiles");
    v("negative_prompt", negative_prompt, "negative prompt; empty: the empty prompt");
    v("t5", t5, "use the T5 encoder if the model has one; without it, its tokens are zeros");
    v("t5_tokens", t5_tokens, "maximum T5 tokens per prompt", range(1, 512));
    v("embedding_cache", embedding_cache,
      "folder that caches prompt embeddings; empty: keep them in memory");
  }
};

/// Throws where such images cannot be made by this transformer and autoencoder: sides that are no
/// multiples or too large, and settings that exclude each other.
void check_sd3_options(const Sd3Options& options, const MmditOptions& transformer,
                       int64_t downscale);

/// The components of an SD3 model by diffusers' names, wherever they lie.
class Sd3Files {
 public:
  /// `path`: a folder, org/name in the Hugging Face cache, or a single file (then options.config is
  /// a folder).
  Sd3Files(const std::string& path, const Sd3Options& options);
  bool has(const std::string& component) const { return index_.has(component); }
  /// The component's folder, which holds its config.json.
  std::filesystem::path folder(const std::string& component) const { return index_.at(component); }
  /// Whether its weights lie there too.
  bool has_weights(const std::string& component) const;
  /// Its weights: views of the files.
  ComponentWeights weights(const std::string& component) const;
  /// The folder that holds all of them, or all configurations.
  const std::filesystem::path& root() const { return index_.folder; }
  bool single_file() const { return !file_.empty(); }

 private:
  std::string variant_;
  std::filesystem::path file_;                 ///< empty: a folder
  std::map<std::string, TensorMap> original_;  ///< of a single file
  ModelIndex index_;
};

/// scheduler/scheduler_config.json: shift of a FlowMatchEulerDiscreteScheduler. Refuses what the
/// sampler here does not do: dynamic shifts, Karras, exponential or beta spacings, other
/// schedulers.
FlowSchedule read_sd3_schedule(const std::filesystem::path& file);

/// The transformer with its weights, frozen, as views of the files where their dtype is `dtype`, in
/// which it computes. `blocks`: where those of its blocks go (Mmdit::bring_blocks_from); null: they
/// stay on the device.
std::unique_ptr<Mmdit> load_sd3_transformer(const Sd3Files& files, at::ScalarType dtype,
                                            std::unique_ptr<BlockSource> blocks = nullptr);

class Sd3Model : public OnMmdit<FlowModel> {
 public:
  /// `dtype` of the transformer, the text encoders and their matrix products; the autoencoder is
  /// fp32. `checkpointing`: of the transformer's blocks and the decoder's. `blocks`: where those of
  /// the transformer go (load_sd3_transformer). Of the processes of `group` rank 0 alone loads the
  /// text encoders, for prompts that are prepared.
  Sd3Model(const std::string& path, const Sd3Options& options, at::ScalarType dtype,
           bool checkpointing, std::unique_ptr<BlockSource> blocks = nullptr,
           const Group& group = {});
  /// The same of files that are open already; `path` is their name for people.
  Sd3Model(const Sd3Files& files, const std::string& path, const Sd3Options& options,
           at::ScalarType dtype, bool checkpointing, std::unique_ptr<BlockSource> blocks = nullptr,
           const Group& group = {});

  Mmdit& mmdit() override { return *transformer_; }
  const Mmdit& mmdit() const override { return *transformer_; }
  Conditioning encode(const std::vector<std::string>& prompts) const override;
  Conditioning unconditional(int64_t count) const override;
  void prepare(const std::vector<std::string>& prompts) const override;
  std::vector<int64_t> state_shape() const override;
  /// Without gradients one image after the other, so that the memory is that of one.
  Tensor decode(const Tensor& x1) const override;
  Dual decode(const Dual& x1) const override;
  FlowSchedule schedule() const override { return schedule_; }
  std::string description() const override;
  const Sd3PromptEncoder& prompts() const { return *prompts_; }

 private:
  template <TensorLike T>
  T decode_all(const T& x1) const;
  std::vector<std::string> missing(const std::vector<std::string>& prompts) const;
  Conditioning encode_missing(const std::vector<std::string>& prompts) const;
  void keep(const std::vector<std::string>& prompts, const Conditioning& rows) const;
  void prepare_here(const std::vector<std::string>& prompts) const;

  Sd3Options options_;
  Group group_;
  FlowSchedule schedule_;
  std::unique_ptr<Mmdit> transformer_;
  std::unique_ptr<AutoencoderKl> vae_;
  std::unique_ptr<TaesdDecoder> taesd_;
  int64_t downscale_ = 8;
  std::unique_ptr<Sd3PromptEncoder> prompts_;
  mutable std::set<std::string> warned_;  ///< what was said of prompts, once
  mutable std::map<std::string, Conditioning>
      embeddings_;  ///< one row a prompt: all without a cache folder, else the negative prompt
                    ///< alone
};

}  // namespace vggflow
