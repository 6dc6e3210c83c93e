#pragma once
// Stable Diffusion 3 models as files: with LoRA adapters merged into the transformer, in another
// number format, or in the other layout. Tensors are made, written and compared one at a time, so
// that the memory is that of one.

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "vggflow/core/field.h"
#include "vggflow/families/sd3/model.h"
#include "vggflow/nn/lora.h"

namespace vggflow {

struct Sd3WriteOptions {
  std::optional<at::ScalarType> dtype;  ///< of every floating-point tensor; none: each as it is
  std::vector<LoraLayer> adapters =
      {};                  ///< merged into the transformer: W + scale B A in fp32, rounded once
  Metadata metadata = {};  ///< for the header of the file that holds the transformer
  /// Looks at the copy while it has its temporary name; what it throws removes that.
  std::function<void(const Sd3Files& written)> check = {};
};

/// What was written, and what reading it back showed.
struct Sd3Written {
  size_t tensors = 0, merged = 0;
  std::vector<std::string> components;
  double worst_rounding =
      0;  ///< largest relative error that rounding makes in a merged layer's change
  std::string worst_name;
};

/// Writes the whole model. `out` ending in .safetensors is one file in Stability's layout
/// (sd3_original.h), without tokenizers and configurations; any other is a folder in diffusers'
/// layout with them. First every component's tensors are held against the network of its
/// configuration. What was written has a temporary name beside `out` while it is opened again and
/// every tensor held against what was meant, bit for bit. A T5 that the model lacks is left out, of
/// a single file every component that it lacks. Throws for weights that do not fit their
/// configuration, adapters that fit no layer, a change that rounding loses, the name of a file for
/// a folder, and where `out` exists; then nothing is left behind.
Sd3Written write_sd3(const Sd3Files& files, const std::filesystem::path& out,
                     const Sd3WriteOptions& options);

/// Options that name the folder of a single file's configurations.
Sd3Options with_config(const std::filesystem::path& folder);

/// The settings of Sd3Options that say where a model's files are.
template <class V>
void sd3_file_fields(V& v, Sd3Options& sd3) {
  v("model_config", sd3.config,
    "of a single-file SD3 model: a diffusers folder with its configurations and tokenizers");
  v("variant", sd3.variant,
    "variant of the weight files, such as fp16; components that lack it use the default files");
  v("revision", sd3.revision, "of a model in the Hugging Face cache: branch, tag or commit");
}

struct ConvertOptions {
  std::string model;
  std::string out;
  std::string dtype = "keep";
  Sd3Options sd3 = {};  ///< config, variant and revision are read

  template <class V>
  void fields(V& v) {
    v("model", model,
      "a folder in diffusers' layout (shards, variants, pickles), org/name in the Hugging Face "
      "cache, or a single file");
    v("out", out,
      "NAME.safetensors: one file in Stability's layout; else a folder in diffusers' layout. What "
      "exists is not overwritten");
    v("dtype", dtype, "number format", choices({"keep", "fp32", "fp16", "bf16"}));
    sd3_file_fields(v, sd3);
  }
};

/// `vggflow convert`: write_sd3 without adapters. Returns what was done in one line.
std::string convert_model(const ConvertOptions& options);

}  // namespace vggflow
