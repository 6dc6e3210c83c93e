#pragma once
// `vggflow export`: a LoRA in another layout, or merged into a model's weights, checked by reading
// it back.

#include <string>

#include "vggflow/core/field.h"
#include "vggflow/families/lora.h"
#include "vggflow/families/open_model.h"

namespace vggflow {

enum class ExportFormat { kDiffusers, kPeft, kKohya, kMerged };
inline OptionWords<ExportFormat> option_words(ExportFormat) {
  return {{"diffusers", ExportFormat::kDiffusers},
          {"peft", ExportFormat::kPeft},
          {"kohya", ExportFormat::kKohya},
          {"merged", ExportFormat::kMerged}};
}

struct ExportOptions {
  std::string lora;
  std::string out;
  ExportFormat format = ExportFormat::kDiffusers;
  NumberFormat dtype = NumberFormat::kFp32;
  ModelSource base = {};
  TextAdapters lora_text_encoders = TextAdapters::kRefuse;

  template <class V>
  void fields(V& v) {
    v("lora", lora,
      "LoRA in any layout. A run writes lora.safetensors (last update), lora_ema.safetensors (EMA, "
      "as evaluated) and lora_best.safetensors (best evaluation)");
    v("out", out,
      "file to write; for peft and merged a folder (merged SD3 also NAME.safetensors, one file in "
      "Stability's layout). Existing files are not overwritten");
    v("format", format, "layout");
    v("dtype", dtype, "number format; fp16 and bf16 round A and B (for merged: every weight) once");
    v("model", base.model,
      "base model, nano or Stable Diffusion 3 (a folder, org/name in the Hugging Face cache, or a "
      "single file): required for merged; otherwise the check also compares the network's outputs");
    v("lora_text_encoders", lora_text_encoders,
      "text-encoder adapters in the LoRA, which are not supported: refuse the file, or skip them");
    base.fields(v);
  }
};

/// Does it and returns what was written and how far the copy is from the source, in one line.
std::string export_lora(const ExportOptions& options);

}  // namespace vggflow
