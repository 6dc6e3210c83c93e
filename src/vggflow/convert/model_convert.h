#pragma once
// `vggflow convert`: a model in another layout or number format, checked by reading it back.

#include <string>

#include "vggflow/core/field.h"
#include "vggflow/families/open_model.h"

namespace vggflow {

/// The number format of a copy.
enum class CopyFormat { kKeep, kFp32, kFp16, kBf16 };
inline OptionWords<CopyFormat> option_words(CopyFormat) {
  return {{"keep", CopyFormat::kKeep},
          {"fp32", CopyFormat::kFp32},
          {"fp16", CopyFormat::kFp16},
          {"bf16", CopyFormat::kBf16}};
}

struct ConvertOptions {
  ModelSource files;
  std::string out;
  CopyFormat dtype = CopyFormat::kKeep;

  template <class V>
  void fields(V& v) {
    v("model", files.model,
      "model: a folder in diffusers' layout (shards, variants, pickles), org/name in the Hugging "
      "Face cache, a single file, or a nano folder");
    v("out", out,
      "output: a folder in diffusers' layout, or NAME.safetensors, one file in Stability's layout "
      "(Stable Diffusion 3 only). Existing files are not overwritten");
    v("dtype", dtype, "number format");
    files.fields(v);
  }
};

/// Writes the model without adapters (write_model). Returns what was done in one line.
std::string convert_model(const ConvertOptions& options);

}  // namespace vggflow
